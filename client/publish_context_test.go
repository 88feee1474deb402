package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/persistence"
)

var errSignal = errors.New("terminated signal received")

// The error names what failed, and matches the cause.
func TestPublish_NamesOperationInContextError(t *testing.T) {
	const want = "client: publish: terminated signal received"
	check := func(c *client.Client, ctx context.Context) {
		t.Helper()
		for _, qos := range []client.QoS{0, 1, 2} {
			if _, err := c.Publish(ctx, client.Message{Topic: "t", QoS: qos}); !errors.Is(err, errSignal) || err.Error() != want {
				t.Errorf("QoS %d: %v, want %q", qos, err, want)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errSignal)
	c := mustNew(t, client.Config{Servers: []string{"mqtt://127.0.0.1:1"}})
	check(c, ctx)
	must(t, c.Start(ctx))
	<-c.Done()
	check(c, t.Context())
}

// contextStore records whether the contexts of Enqueue can end.
type contextStore struct {
	persistence.Store
	bounded bool
}

func (s *contextStore) Enqueue(ctx context.Context, m *persistence.Message) (persistence.Ticket, error) {
	s.bounded = ctx.Done() != nil
	return s.Store.Enqueue(ctx, m)
}

// A store applies WriteTimeout only to contexts with a Done channel.
func TestPublish_BoundsEnqueueWithBackground(t *testing.T) {
	store := &contextStore{Store: persistence.NewMemory(persistence.Options{})}
	cfg := client.Config{Servers: []string{"mqtt://127.0.0.1:1"}, ClientID: "c"}
	cfg.Store.Custom = store
	publish(t, mustNew(t, cfg), "t", "", client.AtLeastOnce) // with context.Background()
	if !store.bounded {
		t.Error("Enqueue got a context without a Done channel")
	}
}
