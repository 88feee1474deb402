// Will runs every case of the Will Message and compares the results with MQTT 5.
//
//	go run ./examples/will                       # prints a table of all cases
//	go run ./examples/will -case "retained will" # runs one case and prints its steps
//	go run ./examples/will -list                 # lists the cases
//	go run ./examples/will -broker mqtt://localhost:1883
//
// This program is a test rig. It is meant to be run, not to be copied: an application sets a will
// with client.Config.Presence. docs/will.md describes the cases.
//
// In each case, the connection of a client ends in a different way. A watcher then receives the will
// at the required time, or no will. The program runs the cases with the in-process broker of
// client/mqtttest, and with mosquitto if it is installed. The exit status is 1 if the in-process
// broker has a wrong result, or if mosquitto differs from MQTT 5 in a way that is not a known
// departure. The exit status is 2 if the program cannot run.
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
	flag.StringVar(&o.name, "case", "", "run only this case (a unique prefix of its name is enough) and print its steps")
	flag.StringVar(&o.broker, "broker", "", "run the cases only with this broker, such as mqtt://user:password@localhost:1883; its wrong results are reported, but do not cause exit status 1")
	flag.StringVar(&o.mosquitto, "mosquitto", "auto", "auto: use mosquitto if it is installed; required: fail if it is not installed; off: do not use it")
	flag.BoolVar(&o.list, "list", false, "list the cases")
	flag.BoolVar(&o.markdown, "markdown", false, "print docs/will.md")
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

// limit is the maximum duration of a run. It usually takes about 12 s.
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
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the cases took more than %v", limit))
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
		return fmt.Errorf("-case %q matches no case or more than one; see -list", o.name)
	}
	return nil
}

// open starts the brokers. A broker that is not installed is nil.
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
	local, err := inProcess()
	if err != nil {
		return nil, nil, err
	}
	brokers, names = []*broker{local}, []string{local.name}
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
	local.close()
	return nil, nil, err
}
