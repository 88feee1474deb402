package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/examples/internal/metrics"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// payload is the payload of a reading. Boot and N number the readings independently of mooring, for
// the referee.
type payload struct {
	Value float64 `json:"value"`
	At    int64   `json:"at"` // Unix nanoseconds
	Boot  uint64  `json:"boot"`
	N     uint64  `json:"n"`
}

// runDevice runs the device process. It publishes readings until the time in o.until, and ends when
// all accepted messages have been acknowledged. After a kill, the main process starts it again, and
// it sends the messages that are pending in its folder.
func runDevice(ctx context.Context, o options) error {
	log, err := persistence.Open(o.dir, persistence.Options{})
	if err != nil {
		return err
	}
	defer log.Close()
	c, err := client.New(credentials(client.Config{
		Servers:    []string{o.server},
		ClientID:   o.prefix + "-device",
		Store:      client.StoreConfig{Custom: sabotage(log, o.without)},
		Publishing: client.PublishingConfig{Sequenced: true},
		Presence:   client.PresenceConfig{Status: &client.Status{Topic: o.prefix + "/status/device"}},
		Connection: client.ConnectionConfig{Backoff: reliability.Backoff{Min: 20 * time.Millisecond, Max: time.Second}},
		OnEvent:    reportEvent,
	}))
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	d := &device{o: o, c: c, boot: log.Boot(), n: map[string]uint64{}}
	measuring, stop := context.WithDeadline(ctx, time.UnixMilli(o.until))
	defer stop()
	sources := metrics.Sources()
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() { d.measure(measuring, s, float64(o.rate)/float64(len(sources))) })
	}
	wg.Wait()

	drainCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = c.Drain(drainCtx)
	st := log.Stats()
	report("stats", st.Accepted, st.Acked, st.Refused+st.Expired+st.Dropped, st.Pending, st.DiskBytes)
	if d.err != nil {
		return d.err
	}
	return err
}

type device struct {
	o    options
	c    *client.Client
	boot uint64

	mu  sync.Mutex
	n   map[string]uint64 // readings per topic
	err error
}

// measure publishes the readings of a source at the given rate in Hz. Each reading is on disk before
// measure publishes the next one.
func (d *device) measure(ctx context.Context, s metrics.Source, rate float64) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	var readings []metrics.Reading
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if len(readings) == 0 {
			var err error
			if readings, err = s.Read(); err != nil || len(readings) == 0 {
				return // this machine does not have these metrics
			}
		}
		if err := d.publish(ctx, readings[0]); err != nil {
			return
		}
		readings = readings[1:]
	}
}

func (d *device) publish(ctx context.Context, r metrics.Reading) error {
	topic := d.o.prefix + "/readings/" + r.Name
	d.mu.Lock()
	d.n[topic]++
	p := payload{Value: r.Value, At: time.Now().UnixNano(), Boot: d.boot, N: d.n[topic]}
	d.mu.Unlock()
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	start := time.Now()
	delivery, err := d.c.Publish(ctx, client.Message{Topic: topic, Payload: b, QoS: client.ExactlyOnce, ContentType: "application/json"})
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	case err != nil:
		d.mu.Lock()
		d.err = err
		d.mu.Unlock()
		return err
	}
	// The message is accepted. From now on, the referee expects that it is delivered.
	report("accepted", delivery.ID, time.Since(start).Microseconds())
	return nil
}
