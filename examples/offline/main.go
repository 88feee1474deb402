// Offline shows a device that is offline for long, with a limit for its disk space.
//
//	go run ./examples/offline
//
// While offline, the device publishes more than the limit holds. Telemetry drops its
// oldest messages, alarms are never dropped, a level keeps its newest value, a preview
// expires, and a report is canceled. Then the link comes up. The program checks the
// outcome of each message, and ends with status 1 if one is wrong.
// docs/guides/offline-device.md explains the settings.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/persistence"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "offline")
	if err == nil {
		err = errors.Join(run(ctx, dir, client.High), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "offline:", err)
		os.Exit(1)
	}
}

// run runs the device, with alarms of a priority.
func run(ctx context.Context, dir string, alarm client.Priority) error {
	b, err := mqtttest.New(mqtttest.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	link, err := mqtttest.NewProxy("127.0.0.1:0", b.URL())
	if err != nil {
		return err
	}
	defer link.Close()
	link.Refuse(true) // the device is offline

	options := persistence.Flash(time.Second) // a power failure loses at most the last second
	options.Limits = persistence.Limits{MaxDiskBytes: 1 << 20, Reserved: 20}
	c, err := client.New(client.Config{
		Servers: []string{link.URL()}, ClientID: "pump-7", Dir: dir,
		Logger: slog.New(slog.DiscardHandler), // otherwise drops are logged
		Store:  client.StoreConfig{WhenFull: client.DropOldest, Options: options},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		return err
	}
	sent := map[string][]*client.Delivery{}
	for n := range 5000 {
		list := []client.Message{
			{Topic: "telemetry", QoS: client.ExactlyOnce, Payload: make([]byte, 300)},
			{Topic: "level", QoS: client.AtLeastOnce, Payload: fmt.Append(nil, n), Conflate: true},
		}
		if n%100 == 0 {
			list = append(list, client.Message{Topic: "alarm", QoS: client.ExactlyOnce, Priority: alarm})
		}
		if n == 4999 {
			list = append(list, client.Message{Topic: "preview", QoS: client.AtLeastOnce, Expiry: 50 * time.Millisecond},
				client.Message{Topic: "report", QoS: client.AtLeastOnce})
		}
		for _, m := range list {
			d, err := c.Publish(ctx, m)
			if err != nil {
				return err
			}
			sent[m.Topic] = append(sent[m.Topic], d)
		}
	}
	if _, err := c.Cancel(ctx, sent["report"][0].ID); err != nil {
		return err
	}
	if _, err := sent["preview"][0].Wait(ctx); !errors.As(err, new(*client.ExpiredError)) {
		return fmt.Errorf("the preview ended with %v", err)
	}
	offline := c.Stats().Store
	fmt.Printf("offline: accepted %d, pending %d, on disk %d KiB of %d KiB\n", offline.Accepted, offline.Pending, offline.DiskBytes>>10, options.Limits.MaxDiskBytes>>10)

	link.Refuse(false) // the link is up
	c.NetworkChanged()
	if err := c.Drain(ctx); err != nil {
		return err
	}
	return check(sent, offline.DiskBytes <= options.Limits.MaxDiskBytes)
}

// check compares the outcomes with those that the settings promise.
func check(sent map[string][]*client.Delivery, small bool) error {
	states := map[string][]client.State{}
	for _, topic := range []string{"telemetry", "level", "alarm", "preview", "report"} {
		for _, d := range sent[topic] {
			states[topic] = append(states[topic], d.Outcome().State)
		}
		acked := slices.IndexFunc(states[topic], func(s client.State) bool { return s == client.Acked })
		fmt.Printf("%-10s published %d, first delivered: %d, last state: %v\n", topic, len(sent[topic]), acked, states[topic][len(sent[topic])-1])
	}
	lost := func(s client.State) bool { return s != client.Acked }
	readings, levels := states["telemetry"], states["level"]
	first := slices.Index(readings, client.Acked)
	switch {
	case !small:
		return errors.New("the store took more disk space than its limit")
	case slices.ContainsFunc(states["alarm"], lost):
		return errors.New("an alarm was lost")
	case first <= 0 || slices.ContainsFunc(readings[first:], lost):
		return errors.New("the delivered readings are not the newest ones")
	case slices.Index(levels, client.Acked) != len(levels)-1:
		return errors.New("not exactly the newest level was delivered")
	case !errors.Is(sent["report"][0].Outcome().Err, client.ErrCancelled):
		return errors.New("the report was not canceled")
	}
	return nil
}
