// Fleetboard shows the presence, backlog, latency and reconnects of simulated devices on a web page.
// Meanwhile, it cuts, stalls and slows their links, and crashes some devices.
//
//	go run ./examples/fleetboard                # then open http://127.0.0.1:8080
//	go run ./examples/fleetboard -devices 2000
//	go run ./examples/fleetboard -for 20s       # checks the board without a browser
//
// This program is a test rig. It is meant to be run, not to be copied: examples/presence and
// examples/status are short programs that show which devices are online.
//
// On the page, take down the link of a device: the board shows the device as offline after the will
// delay. Crash a device: it returns with a new boot ID. Cut the backend's link: no device becomes
// offline. Instead, the board warns that it is out of date and shows the last known numbers with their
// age, and online devices become stale. When the link works again, they are online again. Readings that
// the devices took meanwhile arrive late. No reading is lost or counted twice.
//
// With -for, the program finally repairs the links, compares the board with the actual states of the
// devices, and exits with status 1 if they differ.
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
	flag.StringVar(&o.addr, "addr", o.addr, "address of the page; it has no login, so use a loopback address")
	flag.StringVar(&o.broker, "broker", "", "URL of a broker, such as mqtt://host:1883 (default: a broker in this process)")
	flag.StringVar(&o.user, "user", "", "user name for -broker; the password is read from $MQTT_PASSWORD")
	flag.IntVar(&o.devices, "devices", o.devices, "number of simulated devices")
	flag.DurationVar(&o.every, "every", o.every, "interval between the readings of a device")
	flag.BoolVar(&o.calm, "calm", false, "start without random faults")
	flag.Uint64Var(&o.seed, "seed", o.seed, "seed of the random faults")
	flag.DurationVar(&o.runFor, "for", 0, "run for this time, then stop the faults, check the board and exit (default: run until Ctrl-C)")
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
	case <-s.backend.c.Done(): // the client stopped, for example because of refused credentials
		return s.backend.c.Err()
	case err := <-web.failed:
		return err
	case <-over:
	}
	s.lastFaults()
	wrong := append(s.settle(ctx), s.referee.broken()...)
	fmt.Fprint(out, s.summary(wrong))
	if len(wrong) > 0 {
		return fmt.Errorf("the check failed with %d errors", len(wrong))
	}
	return nil
}
