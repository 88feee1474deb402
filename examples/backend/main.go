// Backend writes the readings of all devices to a file, each reading once and in order.
//
//	go run ./examples/backend -broker mqtt://localhost:1883
//
// This program is meant to be copied: start your own backend from this file, and replace
// examples/internal/results with your database. Its counterpart is examples/device.
//
// To see it work, end the backend with kill -9 while examples/device publishes, and start it
// again. "duplicates" counts redelivered messages that the client or the dedupe cache
// suppressed. If readings of a device are missing, the backend prints a gap. The file never
// contains a reading twice.
//
// Each line of the file contains the reading and the ID of its message. One write stores both,
// so a kill cannot separate them. This is a transaction in its simplest form (see
// examples/internal/results).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/examples/internal/results"
)

func main() {
	broker := flag.String("broker", "mqtt://localhost:1883", "URL of the broker")
	id := flag.String("id", "backend-1", "client identifier; the broker keeps the session under this name")
	dir := flag.String("dir", "backend-data", "folder for the results and the session state")
	user := flag.String("user", "", "user name; the password is read from $MQTT_PASSWORD")
	flag.Parse()
	if err := run(*broker, *user, *id, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func run(broker, user, id, dir string) error {
	// The first signal stops the backend gracefully. A second signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file, rows, err := results.Open(filepath.Join(dir, "results.jsonl"))
	if err != nil {
		return err
	}
	defer file.Close()
	cache, err := results.Cache(rows) // the messages in the file have been handled
	if err != nil {
		return err
	}
	defer cache.Close()

	c, err := client.New(client.Config{
		Servers:    []string{broker},
		Connection: client.ConnectionConfig{Username: user, Password: []byte(os.Getenv("MQTT_PASSWORD"))},
		ClientID:   id,
		Dir:        filepath.Join(dir, "session"),
		Receiving:  client.ReceivingConfig{Dedupe: cache, Ordering: &client.Ordering{Restore: results.Positions(rows)}},
		OnEvent: func(e client.Event) {
			if gap, ok := e.(client.Gap); ok {
				fmt.Printf("GAP: %s is missing %d to %d\n", gap.Topic, gap.From, gap.To)
			}
		},
	})
	if err != nil {
		return err
	}
	keep := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		var reading struct {
			Value float64 `json:"value"`
			At    int64   `json:"at"`
		}
		if err := json.Unmarshal(m.Payload, &reading); err != nil {
			return client.Refuse(0x99, "not a reading") // Payload format invalid
		}
		return file.Append(results.Row{
			Key: []byte(m.Claim.Key), ID: m.ID, Topic: m.Topic, Publisher: m.Origin.Publisher, Epoch: m.Origin.Epoch, Seq: m.Origin.Seq,
			Value: reading.Value, SentAt: reading.At, ReceivedAt: time.Now().UnixNano(),
		})
	})
	// Subscribe before Start: the broker first sends the messages that it kept for this session,
	// and the handler must exist by then.
	if _, err := c.Subscribe(context.Background(), "devices/+/readings/#", client.ExactlyOnce, keep); err != nil {
		return err
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	report(ctx, c, len(rows))
	return errors.Join(c.Close(), c.Err())
}

// report prints the totals every two seconds until ctx ends or the client stops.
func report(ctx context.Context, c *client.Client, before int) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		st := c.Stats()
		fmt.Printf("kept %d  duplicates %d  gaps %d  connected %v\n",
			before+int(st.Handled), st.Duplicates+st.Redelivered, st.Gaps, c.Connected())
		select {
		case <-ctx.Done():
			return
		case <-c.Done(): // the client stopped, for example because the server refused the credentials
			return
		case <-tick.C:
		}
	}
}
