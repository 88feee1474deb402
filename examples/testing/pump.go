// Package pump is a small application and its tests with faults, for
// docs/guides/testing.md:
//
//	go test -v ./examples/testing
//
// The tests lose acknowledgements, cut connections, and kill and restart the broker and
// the application.
package pump

import (
	"context"
	"errors"
	"sync"

	"github.com/mooring-mqtt/mooring/client"
)

// Pump sets its speed on command, and reports it.
type Pump struct {
	c        *client.Client
	commands client.Subscription
	mu       sync.Mutex
	speeds   []string // one for each command
}

// Start starts a pump. The caller of the application sets the server, the folder and
// the timeouts in cfg, and so does each test.
func Start(ctx context.Context, cfg client.Config) (*Pump, error) {
	c, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	p := &Pump{c: c}
	p.commands, err = c.Subscribe(ctx, "pump/set", client.ExactlyOnce, client.HandlerFunc(p.set))
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return p, nil
}

// Ready waits until the broker has granted the subscription to commands.
func (p *Pump) Ready(ctx context.Context) error {
	_, err := p.commands.Wait(ctx)
	return err
}

func (p *Pump) set(_ context.Context, m *client.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.speeds = append(p.speeds, string(m.Payload))
	return nil
}

// Speeds returns the speeds that were set.
func (p *Pump) Speeds() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.speeds
}

// Report publishes a reading. It returns when the reading is stored.
func (p *Pump) Report(ctx context.Context, rpm string) (*client.Delivery, error) {
	return p.c.Publish(ctx, client.Message{Topic: "pump/rpm", Payload: []byte(rpm), QoS: client.AtLeastOnce})
}

// Close stops the pump.
func (p *Pump) Close() error { return p.c.Close() }
