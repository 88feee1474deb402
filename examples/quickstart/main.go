// Quickstart is the whole of mooring in one command: a device publishes this
// machine's real metrics, each reading durably and exactly once, and a backend
// keeps them in a file, while the link between them is cut, torn and stalled,
// both are killed, and the broker is restarted. At the end a referee compares
// what the device was told is accepted with what the backend's file holds.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -broker mqtt://localhost:1883
//	go run ./examples/quickstart -broker mosquitto
//
// What to watch for: the numbers under lost, duplicated and out of order. Take
// a protective part out and see them change: -without dedupe, -without ids,
// -without released. (Since dedupe and ordering at the backend would hide what
// goes wrong at the device, they are out in all three; -without dedupe
// -backend-kills 0 shows that QoS 2 keeps its word without them.)
//
// The program starts itself as three more processes (broker, device, backend),
// so that a SIGKILL is a real one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.broker, "broker", "", "use this broker instead of the in-process one, such as mqtt://localhost:1883; mosquitto: start mosquitto, with its state on disk, and kill it like that one")
	flag.StringVar(&o.restart, "restart", "", "shell command that restarts the -broker; without it that one is not restarted")
	flag.IntVar(&o.rate, "rate", 500, "readings a second")
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "how long the device measures")
	flag.IntVar(&o.cuts, "cuts", 18, "link cuts to attempt; some meet a link that is down already")
	flag.IntVar(&o.deviceKills, "device-kills", 3, "SIGKILLs of the device")
	flag.IntVar(&o.backendKills, "backend-kills", 2, "SIGKILLs of the backend")
	flag.IntVar(&o.restarts, "restarts", 2, "restarts of the broker, by SIGKILL")
	flag.Uint64Var(&o.seed, "seed", 1, "of the order in which things go wrong")
	flag.StringVar(&o.without, "without", "", "take a protective part of the device out: ids (packet identifiers assigned anew at restart) or released (PUBREC not recorded); or of the backend: dedupe. The backend then looks at no message ID and no number, which would hide it, and for the first two it is not killed. The run then fails")
	flag.StringVar(&o.dir, "dir", "", "folder for all files (default: a temporary one, removed at the end)")
	flag.BoolVar(&o.verbose, "v", false, "print why each connection ended")
	flag.StringVar(&o.role, "role", "", "of a child process: broker, device or backend")
	flag.StringVar(&o.server, "server", "", "of a child process: where to connect or listen")
	flag.StringVar(&o.prefix, "prefix", "", "of a child process: topics begin with it")
	flag.Int64Var(&o.until, "until", 0, "of a child process: when to stop measuring, Unix milliseconds")
	flag.Parse()
	if err := o.check(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.role != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop() // the parent asks, or is gone
		}()
	}
	var err error
	switch o.role {
	case "":
		err = run(ctx, o)
	case "broker":
		err = runBroker(ctx, o)
	case "device":
		err = runDevice(ctx, o)
	case "backend":
		err = runBackend(ctx, o)
	default:
		err = fmt.Errorf("unknown role %q", o.role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		if errors.Is(err, errVerdict) {
			os.Exit(1)
		}
		os.Exit(2)
	}
}
