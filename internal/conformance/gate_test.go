package conformance

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// gate is a handler that holds each message until the test opens it for the payload.
type gate struct {
	t     *testing.T
	mu    sync.Mutex
	doors map[string]chan error
}

func newGate(t *testing.T) *gate { return &gate{t: t, doors: map[string]chan error{}} }

func (g *gate) door(payload string) chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.doors[payload] == nil {
		g.doors[payload] = make(chan error)
	}
	return g.doors[payload]
}

func (g *gate) handle(ctx context.Context, m *client.Message) error {
	select {
	case err := <-g.door(string(m.Payload)):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open lets one message through, after waiting for it.
func (g *gate) open(payload string) {
	g.t.Helper()
	g.end(payload, nil)
}

// refuse makes the handler refuse one message.
func (g *gate) refuse(payload string, code byte) {
	g.t.Helper()
	g.end(payload, client.Refuse(code, ""))
}

func (g *gate) end(payload string, err error) {
	g.t.Helper()
	select {
	case g.door(payload) <- err:
	case <-time.After(10 * time.Second):
		g.t.Fatalf("no handler has %q", payload)
	}
}
