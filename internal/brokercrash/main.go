// Brokercrash kills brokers with SIGKILL while a publisher sends QoS 2 messages. It counts the
// messages that are lost, duplicated and out of order. The broker, the publisher and the subscriber
// are separate processes.
//
//	go run ./internal/brokercrash -broker mosquitto -rounds 20
//
// Scenarios:
//
//	kill        kill the broker
//	both        kill broker and publisher together
//	rollback    restart the broker with an earlier saved state
//	subscriber  kill broker and subscriber together
//	all         kill broker, publisher and subscriber together
//
// A message is lost by the client if the broker did not acknowledge its PUBLISH and no receiver got
// it. Messages that the broker has acknowledged and lost in a crash are counted separately, because
// no client can know that. A message is lost by the subscriber if the subscriber has acknowledged
// it with PUBREC on the wire, and it is missing from the journal of the handler.
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
	delay            time.Duration // of the publisher's link
	verbose          bool
	plain            bool // the broker has its default limits

	role, server, dir string // of a child process
}

// client returns the common configuration of the clients of a run.
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
			stop() // the parent requests the end or has ended
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

// errBroken is the error of a run with unexpected results.
var errBroken = errors.New("messages were lost, duplicated, out of order or not drained")
