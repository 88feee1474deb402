// Fleetboard shows the presence, backlog, latency and reconnects of a fleet of
// devices on a web page, live, while their links are cut, stalled and slowed and
// some of them crash.
//
//	go run ./examples/fleetboard                # then open http://127.0.0.1:8080
//	go run ./examples/fleetboard -devices 2000
//	go run ./examples/fleetboard -for 20s       # without anybody watching: is the board right?
//
// What to watch for: take a device's link down, and it is offline once the broker
// has waited out the will delay; crash it, and it comes back as another boot. Cut
// the backend's own link, and no device becomes offline by that: the board says
// that it cannot be trusted, what was online turns stale, and is online again
// without a word when the link is back. What devices measured meanwhile is late,
// not lost, and no reading is counted twice.
//
// At its end (-for, Ctrl-C) the board is held against what the devices truly are.
// With -for the exit status is 1 if they differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	o := defaults()
	flag.StringVar(&o.addr, "addr", o.addr, "where the page is served; there is no log-in, so keep it on loopback")
	flag.StringVar(&o.broker, "broker", "", "a broker of yours, as mqtt://host:1883 (default: one inside this process)")
	flag.StringVar(&o.user, "user", "", "user name for -broker; the password comes from $MQTT_PASSWORD")
	flag.IntVar(&o.devices, "devices", o.devices, "simulated devices")
	flag.DurationVar(&o.every, "every", o.every, "time between two readings of a device")
	flag.BoolVar(&o.calm, "calm", false, "begin without random faults")
	flag.Uint64Var(&o.seed, "seed", o.seed, "of the random faults")
	flag.DurationVar(&o.runFor, "for", 0, "run for so long, mend everything, check the board and exit (default: until Ctrl-C)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fleetboard:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	switch {
	case o.devices < 0 || o.devices > maxDevices:
		return fmt.Errorf("-devices is %d; use 0 to %d", o.devices, maxDevices)
	case o.every < 10*time.Millisecond:
		return fmt.Errorf("-every is %v; use 10ms or more", o.every)
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another -addr", err)
	}
	s, err := newSimulation(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { err = errors.Join(err, s.close()) }()
	web := startServer(l, s)
	defer func() { err = errors.Join(err, web.close()) }()
	fmt.Fprintf(out, "%d devices on %s; the board is at http://%s\n", o.devices, s.place.url, l.Addr())

	var over <-chan time.Time
	if o.runFor > 0 {
		timer := time.NewTimer(o.runFor)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
		s.faults.stop()
		fmt.Fprint(out, s.summary(nil))
		return nil
	case <-s.backend.c.Done(): // it gave up: credentials, for example
		return s.backend.c.Err()
	case err := <-web.failed:
		return err
	case <-over:
	}
	s.lastFaults()
	wrong := append(s.settle(ctx), s.referee.broken()...)
	fmt.Fprint(out, s.summary(wrong))
	if len(wrong) > 0 {
		return fmt.Errorf("the board is wrong in %d places", len(wrong))
	}
	return nil
}
