// Presence shows how backends learn which devices are online.
//
//	go run ./examples/presence
//
// Two backends watch three devices. One device ends cleanly, one crashes, and one loses
// its link and returns within the will delay. Then each backend loses its own link. The
// program checks that both backends report what happened and nothing else, and ends with
// status 1 if not. docs/guides/presence.md explains the settings.
package main

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, 3*time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "presence:", err)
		os.Exit(1)
	}
}

// run runs the backends, and the devices with this will delay.
func run(ctx context.Context, delay time.Duration) error {
	b, err := mqtttest.New(mqtttest.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	changes := map[string]iter.Seq[presence.Change]{}
	for _, id := range []string{"backend-1", "backend-2"} { // each with its own ClientID
		c, err := start(ctx, client.Config{Servers: []string{b.URL()}, ClientID: id, Session: client.SessionConfig{Expiry: client.NoSession}})
		if err != nil {
			return err
		}
		defer c.Close()
		w, err := c.WatchStatus(ctx, "devices/+/status", client.WatchOptions{})
		if err != nil {
			return err
		}
		changes[id] = w.Changes()
		if _, err := w.Synced(ctx); err != nil {
			return err
		}
	}
	life, crash := context.WithCancelCause(ctx)
	defer crash(nil)
	devices := map[string]*client.Client{}
	for id, ctx := range map[string]context.Context{"leaves": ctx, "crashes": life, "returns": ctx} {
		topic := "devices/" + id + "/status"
		c, err := start(ctx, client.Config{Servers: []string{b.URL()}, ClientID: id, Presence: client.PresenceConfig{
			Status: &client.Status{Topic: topic, Structured: true, Version: "1.4.2", Delay: delay}}})
		if err != nil {
			return err
		}
		defer c.Close()
		devices[id] = c
		err = b.WaitFor(ctx, func() bool { status, _ := b.Retained(topic); return strings.Contains(string(status), `"online"`) })
		if err != nil {
			return err
		}
	}
	if err := devices["leaves"].Close(); err != nil {
		return err
	}
	crash(client.ErrAbort) // the connection ends without a DISCONNECT
	b.Cut("returns")       // the client connects again
	want := []string{"view synced",
		"leaves: unknown -> online (birth)", "crashes: unknown -> online (birth)", "returns: unknown -> online (birth)",
		"leaves: online -> offline (close)", "crashes: online -> offline (will)",
		"view stale", "view synced"} // the backend loses its own link
	slices.Sort(want)
	for id, list := range changes {
		var got []string
		for change := range list {
			got = append(got, line(change))
			fmt.Println(id, got[len(got)-1])
			if change.Device.Status.Reason == presence.ReasonWill {
				b.Cut(id)
			}
			if change.Kind == presence.ViewSynced && len(got) > 1 {
				break
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%s reported %q, want %q", id, got, want)
		}
	}
	return nil
}

func line(c presence.Change) string {
	if c.Kind != presence.Changed {
		return c.Kind.String()
	}
	name := strings.Split(c.Device.Topic, "/")[1]
	return fmt.Sprintf("%s: %v -> %v (%s)", name, c.From, c.Device.State, c.Device.Status.Reason)
}

// start starts a client and waits for its connection.
func start(ctx context.Context, cfg client.Config) (*client.Client, error) {
	cfg.Logger = slog.New(slog.DiscardHandler)
	c, err := client.New(cfg)
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, c.AwaitConnection(ctx)
}
