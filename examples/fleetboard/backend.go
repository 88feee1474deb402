package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/reliability"
)

// backend is the backend of the fleet. It handles every reading once, watches the statuses of the
// devices, and gives both to the board.
type backend struct {
	c     *client.Client
	watch *client.StatusWatch
	link  *mqtttest.Proxy
	board *board
	cache *dedupe.Memory
}

func newBackend(p *place, o *options, s *simulation) (*backend, error) {
	b := &backend{link: p.link(), cache: dedupe.NewMemory(dedupe.Options{Capacity: 1 << 18})}
	keepAlive := o.keepAlive
	var err error
	b.c, err = client.New(client.Config{
		Servers: []string{p.url},
		Connection: client.ConnectionConfig{
			Dial:           func(context.Context, *url.URL) (net.Conn, error) { return b.link.Dial() },
			Username:       o.user,
			Password:       password(o),
			KeepAlive:      keepAlive,
			Backoff:        reliability.Backoff{Min: 50 * time.Millisecond, Max: time.Second},
			StableAfter:    2 * time.Second,
			ConnectTimeout: 5 * time.Second,
			AckTimeout:     8 * time.Second,
			CloseTimeout:   2 * time.Second,
		},
		ClientID:  clientID(p, "board"),
		Logger:    slog.New(slog.DiscardHandler), // the board shows the states
		Receiving: client.ReceivingConfig{Dedupe: b.cache, Concurrency: 4, QoS0QueueSize: 4096},
		Session:   client.SessionConfig{Expiry: 10 * time.Minute},
	})
	if err != nil {
		return nil, errors.Join(err, b.link.Close(), b.cache.Close())
	}
	b.board = newBoard(b, func(topic string) string { return p.name(topic, "status") })
	b.board.sim = s
	if err := b.begin(p, o); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// begin declares the handlers before Start, because the broker may deliver stored messages at once.
func (b *backend) begin(p *place, o *options) error {
	ctx := context.Background()
	readings := func(_ context.Context, m *client.Message) error {
		var r reading
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			return client.Refuse(0x99, "not a reading") // Payload format invalid
		}
		b.board.handled(p.name(m.Topic, "readings"), time.Unix(0, r.At), time.Now())
		return nil
	}
	reports := func(_ context.Context, m *client.Message) error {
		var r selfReport
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			return client.Refuse(0x99, "not a report")
		}
		b.board.reported(p.name(m.Topic, "stats"), r, time.Now())
		return nil
	}
	if _, err := b.c.Subscribe(ctx, p.topic("+", "readings"), client.AtLeastOnce, client.HandlerFunc(readings)); err != nil {
		return err
	}
	if _, err := b.c.Subscribe(ctx, p.topic("+", "stats"), client.AtMostOnce, client.HandlerFunc(reports)); err != nil {
		return err
	}
	if err := b.c.Start(ctx); err != nil {
		return err
	}
	var err error
	b.watch, err = b.c.WatchStatus(ctx, p.topic("+", "status"), client.WatchOptions{
		MaxDevices: maxDevices, StaleAfter: o.staleAfter, OnChange: b.board.changed,
	})
	b.board.watch = b.watch
	return err
}

// forget removes the retained status of a device.
func (b *backend) forget(ctx context.Context, topic string) error {
	_, err := b.c.ClearRetained(ctx, topic)
	return err
}

func (b *backend) close() error {
	b.board.end()
	b.link.ClearFaults()
	b.link.Resume()
	err := b.c.CloseWith(client.DisconnectOptions{SessionExpiry: client.NoSession})
	return errors.Join(err, b.link.Close(), b.cache.Close())
}
