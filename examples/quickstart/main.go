// Quickstart runs a device, a backend and a broker, injects faults, and counts the messages.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -broker mqtt://localhost:1883
//	go run ./examples/quickstart -broker mosquitto
//
// This program is a test rig. It is meant to be run, not to be copied: to write an application,
// start from examples/device and examples/backend.
//
// The device publishes metrics of this machine with QoS 2. The backend writes them to a file.
// Meanwhile, the program cuts and stalls the links, kills the device and the backend, and restarts
// the broker. Finally, a referee compares the messages that the device accepted with those in the
// backend's file. It does not use mooring's counters for this.
//
// Look at the numbers after lost, duplicated and out of order: they are 0. They change if you switch
// off a protection with -without dedupe, -without ids or -without released. Each of them also
// switches off deduplication and ordering in the backend, because these would hide faults of the
// device. With -without dedupe -backend-kills 0, QoS 2 alone prevents duplicates.
//
// The program starts itself as three child processes (broker, device and backend), so that it can
// kill them with SIGKILL.
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
	flag.StringVar(&o.broker, "broker", "", "URL of the broker, such as mqtt://localhost:1883, or mosquitto to start mosquitto and kill it too (default: a broker in a child process)")
	flag.StringVar(&o.restart, "restart", "", "shell command that restarts the broker at the URL in -broker; without it, that broker is not restarted")
	flag.IntVar(&o.rate, "rate", 500, "readings per second")
	flag.DurationVar(&o.duration, "duration", 20*time.Second, "time during which the device publishes")
	flag.IntVar(&o.cuts, "cuts", 18, "number of link cuts; a cut has no effect while the link is down")
	flag.IntVar(&o.deviceKills, "device-kills", 3, "number of SIGKILLs of the device")
	flag.IntVar(&o.backendKills, "backend-kills", 2, "number of SIGKILLs of the backend")
	flag.IntVar(&o.restarts, "restarts", 2, "number of restarts of the broker, with SIGKILL")
	flag.Uint64Var(&o.seed, "seed", 1, "seed for the order of the faults")
	flag.StringVar(&o.without, "without", "", "switch off a protection, so that the run fails. In the device: ids (a restart assigns new packet identifiers) or released (PUBREC is not recorded); the backend is then not killed. In the backend: dedupe. Each value also switches off deduplication and ordering in the backend")
	flag.StringVar(&o.dir, "dir", "", "folder for all files (default: a temporary folder, removed at the end)")
	flag.BoolVar(&o.verbose, "v", false, "print each event and the reason why a connection ended")
	flag.StringVar(&o.role, "role", "", "child process only: broker, device or backend")
	flag.StringVar(&o.server, "server", "", "child process only: URL to connect to, or address to listen on")
	flag.StringVar(&o.prefix, "prefix", "", "child process only: prefix of all topics")
	flag.Int64Var(&o.until, "until", 0, "child process only: end of publishing in Unix milliseconds")
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
			stop() // the parent process has closed the pipe or ended
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
