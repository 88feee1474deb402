// Device publishes this machine's real metrics to a broker, each reading
// durably and exactly once.
//
//	go run ./examples/device -broker mqtt://localhost:1883 -id press-4
//
// What to watch for: stop the broker, pull the cable, kill -9 the device and
// start it again with the same -id and -dir. "accepted" goes on counting while
// there is no link, and "pending" runs down to 0 when it is back. Nothing is
// lost or doubled, and examples/backend on the other side shows no gap.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/examples/internal/metrics"
)

func main() {
	broker := flag.String("broker", "mqtt://localhost:1883", "the broker")
	id := flag.String("id", "device-1", "client identifier, and part of the topics")
	dir := flag.String("dir", "", "folder of the outbox (default: one in the user's cache folder, by id)")
	every := flag.Duration("every", time.Second, "time between two rounds of readings")
	user := flag.String("user", "", "user name; the password comes from $MQTT_PASSWORD")
	flag.Parse()
	if err := run(*broker, *user, *id, *dir, *every); err != nil {
		fmt.Fprintln(os.Stderr, "device:", err)
		os.Exit(1)
	}
}

func run(broker, user, id, dir string, every time.Duration) error {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		dir = cache + "/mooring-device/" + id
	}
	// The second signal ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	c, err := client.New(client.Config{
		Servers:    []string{broker},
		Connection: client.ConnectionConfig{Username: user, Password: []byte(os.Getenv("MQTT_PASSWORD"))},
		ClientID:   id,
		Dir:        dir,                                      // what Publish accepts is on disk
		Publishing: client.PublishingConfig{Sequenced: true}, // numbered, so that the backend can tell a gap
		Presence:   client.PresenceConfig{Status: &client.Status{Topic: "devices/" + id + "/status", Delay: 5 * time.Second}},
	})
	if err != nil {
		return err
	}
	// The client outlives the signal, so that it can end properly.
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	measure(ctx, c, id, every)
	if err := c.Err(); err != nil {
		return err
	}

	// A service gets a few seconds to end: use them to deliver what is left.
	// The rest stays on disk and goes on at the next start, which is no failure.
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = c.Drain(patience)
	var left *client.DrainError
	if errors.As(err, &left) && c.Err() == nil {
		fmt.Println(err)
		return nil
	}
	return err
}

func measure(ctx context.Context, c *client.Client, id string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, source := range metrics.Sources() {
			readings, err := source.Read()
			if err != nil {
				continue // this machine does not have it
			}
			for _, r := range readings {
				if err := publish(ctx, c, "devices/"+id+"/readings/"+r.Name, r.Value); err != nil {
					fmt.Println("not accepted:", err)
				}
			}
		}
		st := c.Stats()
		fmt.Printf("accepted %d  acked %d  pending %d  connected %v\n", st.Store.Accepted, st.Store.Acked, st.Store.Pending, c.Connected())
		select {
		case <-ctx.Done():
			return
		case <-c.Done(): // it gave up: credentials, for example
			return
		case <-tick.C:
		}
	}
}

func publish(ctx context.Context, c *client.Client, topic string, value float64) error {
	payload, err := json.Marshal(map[string]any{"value": value, "at": time.Now().UnixNano()})
	if err != nil {
		return err
	}
	// Returns when the message is on disk. The Delivery that it also returns
	// tells what became of it; here the totals will do.
	_, err = c.Publish(ctx, client.Message{
		Topic: topic, Payload: payload, QoS: client.ExactlyOnce, ContentType: "application/json",
	})
	return err
}
