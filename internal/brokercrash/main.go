// Brokercrash kills brokers with SIGKILL while a publisher sends QoS 2 messages, and counts what is lost,
// duplicated and out of order. The broker, the publisher and the subscriber are processes of their own.
//
//	go run ./internal/brokercrash -broker mosquitto -rounds 20
//
// Scenarios: kill (of the broker), both (broker and publisher are killed together), rollback (the
// broker starts again with its saved state of an earlier moment), subscriber (broker and subscriber are
// killed together), all (broker, publisher and subscriber).
//
// A message is lost by the client if the broker did not acknowledge its PUBLISH and a receiver did not
// get it. Messages that the broker has acknowledged and does not have any more after a crash are
// counted apart: no client can know that. A message is lost by the subscriber if it was seen on the wire
// that the subscriber has acknowledged it, by PUBREC, and it is not in the journal of its handler.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/reliability"
)

type options struct {
	broker, scenario string
	rounds, rate     int
	running          time.Duration
	delay            time.Duration // of the link of the publisher
	verbose          bool
	plain            bool // the limits of the broker are its defaults

	role, server, dir string // of a child process
}

// client returns what the clients of a run have in common.
func (o options) client(id string, backoff reliability.Backoff) client.Config {
	return client.Config{
		Servers:    []string{o.server},
		ClientID:   id,
		Connection: client.ConnectionConfig{Backoff: backoff},
		Logger:     slog.New(slog.DiscardHandler),
		OnEvent: func(e client.Event) {
			if o.verbose {
				fmt.Printf("event %T %+v\n", e, e)
			}
		},
	}
}

func main() {
	var o options
	flag.StringVar(&o.broker, "broker", "mosquitto", "mosquitto or mqtttest")
	flag.StringVar(&o.scenario, "scenario", "kill", "kill, both, rollback, subscriber or all")
	flag.IntVar(&o.rounds, "rounds", 2, "times that the broker is killed")
	flag.IntVar(&o.rate, "rate", 500, "messages a second")
	flag.DurationVar(&o.running, "running", 1500*time.Millisecond, "how long the broker runs in each round, at least")
	flag.DurationVar(&o.delay, "delay", 0, "of the link of the publisher, each way")
	flag.BoolVar(&o.plain, "defaults", false, "mosquitto with its default limits: 20 in flight, 1,000 queued")
	flag.BoolVar(&o.verbose, "v", false, "print what happens")
	flag.StringVar(&o.role, "role", "", "of a child process: broker, publisher or subscriber")
	flag.StringVar(&o.server, "server", "", "of a child process: where to connect or listen")
	flag.StringVar(&o.dir, "dir", "", "of a child process: its folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.role != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop() // the parent asks, or has ended
		}()
	}
	var err error
	switch o.role {
	case "broker":
		err = runBroker(ctx, o)
	case "publisher":
		err = runPublisher(ctx, o)
	case "subscriber":
		err = runSubscriber(ctx, o)
	default:
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "brokercrash:", err)
		os.Exit(1)
	}
}

// errBroken is the result of a run that does not show what it has to.
var errBroken = errors.New("messages were lost, duplicated, out of order or not drained")
