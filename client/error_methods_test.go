package client_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// causedError is an error whose methods panic for a nil pointer, and if it has no cause.
type causedError struct{ cause error }

func (e *causedError) Error() string { return "because of " + e.cause.Error() }
func (e *causedError) Unwrap() error { return e.cause }

// panickingCache fails for ten seconds with an error whose methods panic.
type panickingCache struct {
	dedupe.Cache
	until time.Time
}

func (p *panickingCache) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	if time.Now().Before(p.until) {
		return dedupe.Claim{}, 0, (*causedError)(nil)
	}
	return p.Cache.Begin(ctx, key, owner)
}

func (p *panickingCache) Renew(context.Context, dedupe.Claim) (dedupe.Claim, error) {
	return dedupe.Claim{}, (*causedError)(nil)
}

func (p *panickingCache) Commit(context.Context, dedupe.Claim) error { return (*causedError)(nil) }

// A panic in a method of an error that a function of the application returned counts as a panic of
// that function. It does not end the process.
func TestCallbacks_ErrorMethodsMayPanic(t *testing.T) {
	for name, err := range map[string]error{"nil pointer": (*causedError)(nil), "permanent": client.Permanent(&causedError{}), "zero": &client.PermanentError{}} {
		t.Run("handler "+name, func(t *testing.T) {
			receiving(t, withAside, client.HandlerFunc(func(context.Context, *client.Message) error { return err }),
				func(t *testing.T, c *client.Client, p *peer, events *recorder) {
					p.publish(appMessage(1, 1, "x"))
					p.nextAck(wire.PUBACK) // after ten panics
					wantListed(t, c, "x")
					for m := range c.SetAside().All() {
						if m.Attempts != 10 || !strings.Contains(m.Err, "nil pointer") {
							t.Errorf("listed %+v", m)
						}
					}
					if got := eventsOf[client.HandlerFailed](events); !errors.As(got[0].Err, new(*client.PanicError)) {
						t.Errorf("reported %+v", got[0])
					}
				})
		})
	}
	t.Run("Dedupe", func(t *testing.T) {
		in := newInbox()
		receiving(t, func(cfg *client.Config) {
			cfg.Receiving.Dedupe = &panickingCache{dedupe.NewMemory(dedupe.Options{Lease: 3 * time.Second}), time.Now().Add(10 * time.Second)}
			cfg.Receiving.DedupeKey = client.KeyByContent
		}, client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			time.Sleep(10 * time.Second)
			return in.Handle(ctx, m)
		}),
			func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				p.publish(appMessage(1, 1, "x"))
				p.nextAck(wire.PUBACK)
				wantHandled(t, in, "x")
				if got := eventsOf[client.StoreFailed](events); len(got) < 3 {
					t.Errorf("reported %+v", got)
				}
			})
	})
	t.Run("Dial and Credentials", func(t *testing.T) {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			failed := 0
			cfg.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
				if failed++; failed < 3 {
					return nil, (*causedError)(nil)
				}
				return s.dial(), nil
			}
			asked := 0
			cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) {
				if asked++; asked < 3 {
					return client.Credentials{}, (*causedError)(nil)
				}
				return client.Credentials{}, nil
			}
			c := mustStart(t, cfg)
			s.accept(control.Connack{})
			connect(t, c)
			must(t, c.Close())
		})
	})
}
