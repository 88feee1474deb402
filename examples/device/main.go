// Device publishes metrics of this machine. Each reading is stored on disk first, and is
// delivered exactly once.
//
//	go run ./examples/device -broker mqtt://localhost:1883 -id press-4
//
// This program is meant to be copied: start your own device from this file, and replace
// examples/internal/metrics with your sensors. Its counterpart is examples/backend.
//
// To see it work, stop the broker, unplug the network, or end the device with kill -9. Then
// start it again with the same -id and -dir. While the device is offline, "accepted"
// continues to rise. When it is connected again, "pending" falls to 0. No reading is lost or
// delivered twice, and examples/backend reports no gap.
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
	broker := flag.String("broker", "mqtt://localhost:1883", "URL of the broker")
	id := flag.String("id", "device-1", "client identifier; it is also part of the topics")
	dir := flag.String("dir", "", "folder of the client's store (default: mooring-device/ID in the user's cache folder)")
	every := flag.Duration("every", time.Second, "interval between readings")
	user := flag.String("user", "", "user name; the password is read from $MQTT_PASSWORD")
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
	// The first signal stops the device gracefully. A second signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	c, err := client.New(client.Config{
		Servers:    []string{broker},
		Connection: client.ConnectionConfig{Username: user, Password: []byte(os.Getenv("MQTT_PASSWORD"))},
		ClientID:   id,
		Dir:        dir,                                      // Publish stores each message here before it returns
		Publishing: client.PublishingConfig{Sequenced: true}, // numbers the messages; the backend detects gaps
		Presence:   client.PresenceConfig{Status: &client.Status{Topic: "devices/" + id + "/status", Delay: 5 * time.Second}},
	})
	if err != nil {
		return err
	}
	// The signal must not cancel the context of Start: the client still has to drain below.
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	measure(ctx, c, id, every)
	if err := c.Err(); err != nil {
		return err
	}

	// Try for 5 s to deliver the pending messages. Messages that remain stay on disk, and the
	// next start of the device sends them. This is not a failure.
	drainCtx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = c.Drain(drainCtx)
	var pending *client.DrainError
	if errors.As(err, &pending) && c.Err() == nil {
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
				continue // this machine does not have this metric
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
		case <-c.Done(): // the client stopped, for example because the server refused the credentials
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
	// Publish returns when the message is on disk. This program ignores the returned Delivery,
	// which reports the outcome of the message: the totals in Stats are sufficient here.
	_, err = c.Publish(ctx, client.Message{
		Topic: topic, Payload: payload, QoS: client.ExactlyOnce, ContentType: "application/json",
	})
	return err
}
