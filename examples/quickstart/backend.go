package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/examples/internal/results"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// awayFile exists in the backend's folder while its simulated database is unavailable.
const awayFile = "database-away"

// runBackend runs the backend process. It writes each reading as a line of the results file. When
// it starts again, it reads from this file which messages have been handled.
func runBackend(ctx context.Context, o options) error {
	file, rows, err := results.Open(o.dir + "/results.jsonl")
	if err != nil {
		return err
	}
	defer file.Close()
	cfg := client.Config{
		Servers:    []string{o.server},
		ClientID:   o.prefix + "-backend",
		Dir:        o.dir + "/session",
		Connection: client.ConnectionConfig{Backoff: reliability.Backoff{Min: 20 * time.Millisecond, Max: time.Second}},
		OnEvent:    reportEvent,
	}
	if o.without == "" {
		var cache dedupe.Cache
		if cache, err = results.Cache(rows); err != nil {
			return err
		}
		defer cache.Close()
		cfg.Receiving.Dedupe = cache
		cfg.Receiving.Ordering = &client.Ordering{
			Options: ordering.Options{Start: ordering.FromOne, GapTimeout: 20 * time.Second},
			Restore: results.Positions(rows),
		}
	}
	c, err := client.New(credentials(cfg))
	if err != nil {
		return err
	}
	keep := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		var p payload
		if err := json.Unmarshal(m.Payload, &p); err != nil {
			return client.Refuse(0x99, "not a reading")
		}
		if _, err := os.Stat(o.dir + "/" + awayFile); err == nil {
			return errors.New("the database is unavailable") // the client calls the handler again
		}
		err := file.Append(results.Row{
			Key: []byte(m.Claim.Key), ID: m.ID, Topic: m.Topic, Publisher: m.Origin.Publisher, Epoch: m.Origin.Epoch, Seq: m.Origin.Seq,
			Boot: p.Boot, N: p.N, Value: p.Value, SentAt: p.At, ReceivedAt: time.Now().UnixNano(),
		})
		// This simulates further work of a backend. If the process is killed here, the row is
		// stored, but the message is not acknowledged. So the broker sends the message again.
		time.Sleep(2 * time.Millisecond)
		return err
	})
	// Declare the handler before Start: a resumed session can deliver messages immediately.
	filter := o.prefix + "/readings/#"
	if err := c.Handle(filter, keep); err != nil {
		return err
	}
	if err := c.Start(context.Background()); err != nil {
		return err
	}
	if err := c.AwaitConnection(ctx); err != nil {
		return err
	}
	if _, err := c.Subscribe(ctx, filter, client.ExactlyOnce, keep); err != nil {
		return err
	}
	report("ready", "")
	<-ctx.Done()
	err = c.Close()
	st := c.Stats()
	report("received", st.Received, st.Duplicates)
	return err
}
