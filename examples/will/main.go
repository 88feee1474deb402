// Will plays every case of the Will Message, one client after the other dying
// in its own way, and holds what comes against what MQTT 5 says: on the
// in-process broker of client/mqtttest, and on mosquitto if it is installed.
//
//	go run ./examples/will                          # one table
//	go run ./examples/will -case "delay passed"     # one case, told step by step
//	go run ./examples/will -list
//	go run ./examples/will -broker mqtt://localhost:1883
//
// What to watch for: a will that comes although the client said goodbye, one
// that does not come although it died, one that comes early. The exit status is
// 1 if the in-process broker is wrong anywhere, or mosquitto is in a way that
// is not known of it; 2 if the program could not do its work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type options struct {
	name      string
	broker    string
	mosquitto string
	list      bool
	markdown  bool
}

func main() {
	var o options
	flag.StringVar(&o.name, "case", "", "play this case only (the beginning of its name will do) and tell what happens")
	flag.StringVar(&o.broker, "broker", "", "play on this broker instead, such as mqtt://user:password@localhost:1883; what it does otherwise is reported and is no failure")
	flag.StringVar(&o.mosquitto, "mosquitto", "auto", "auto: if it is installed; required: fail without it; off")
	flag.BoolVar(&o.list, "list", false, "list the cases")
	flag.BoolVar(&o.markdown, "markdown", false, "write docs/will.md to the standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "will:", err)
		os.Exit(2)
	}
	if !good {
		os.Exit(1)
	}
}

// limit is what the whole may take: about 12 s are needed.
const limit = time.Minute

func run(ctx context.Context, o options) (good bool, err error) {
	list := make([]*scenario, len(cases))
	for i := range cases {
		list[i] = &cases[i]
	}
	if err := o.check(); err != nil {
		return false, err
	}
	switch {
	case o.markdown:
		fmt.Print(markdown())
		return true, nil
	case o.list:
		for _, c := range list {
			fmt.Printf("%-58s %s [%s]\n", c.name, c.expectation(), c.rule)
		}
		return true, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("the program's time is up"))
	defer cancel()
	brokers, names, err := o.open()
	if err != nil {
		return false, err
	}
	defer func() {
		for _, b := range brokers {
			if b != nil {
				b.close()
			}
		}
	}()
	if o.name != "" {
		c := named(o.name)
		fmt.Printf("%s [%s]\n\n%s\n\n", c.name, c.rule, strings.ReplaceAll(strings.Join(wrap(c.why, 100), "\n"), "\n  ", "\n"))
		good = true
		for _, b := range brokers {
			if b != nil {
				good = explain(ctx, os.Stdout, c, b) && good
			}
		}
		return good, nil
	}
	begin := time.Now()
	good = table(os.Stdout, list, names, brokers, playOnAll(ctx, list, brokers), "not installed")
	fmt.Printf("%d cases in %.1f s\n", len(list), time.Since(begin).Seconds())
	return good, nil
}

func (o options) check() error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.mosquitto != "auto" && o.mosquitto != "required" && o.mosquitto != "off":
		return fmt.Errorf("-mosquitto %q: use auto, required or off", o.mosquitto)
	case o.name != "" && named(o.name) == nil:
		return fmt.Errorf("-case %q is no case, or the beginning of several; -list has them all", o.name)
	}
	return nil
}

// open starts the brokers. One that is not installed is nil.
func (o options) open() (brokers []*broker, names []string, err error) {
	if o.broker != "" {
		b, err := external(o.broker)
		if err == nil {
			err = b.reach()
		}
		if err != nil {
			return nil, nil, err
		}
		return []*broker{b}, []string{b.name}, nil
	}
	ours, err := inProcess()
	if err != nil {
		return nil, nil, err
	}
	brokers, names = []*broker{ours}, []string{ours.name}
	if o.mosquitto == "off" {
		return brokers, names, nil
	}
	m, err := mosquitto()
	switch {
	case err == nil:
		return append(brokers, m), append(names, m.name), nil
	case o.mosquitto == "auto" && errors.Is(err, errNotInstalled):
		return append(brokers, nil), append(names, "mosquitto"), nil
	}
	ours.close()
	return nil, nil, err
}
