package conformance

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	leaktest.Main(m)
}

// raw returns a packet built from fields. It inserts the Remaining Length. A string is written with
// its length, uint16 and uint32 in big-endian order, and []byte unchanged.
func raw(header byte, fields ...any) []byte {
	body := bytesOf(fields...)
	return append(binary.AppendUvarint([]byte{header}, uint64(len(body))), body...)
}

// props returns a property section with its length.
func props(fields ...any) []byte {
	body := bytesOf(fields...)
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

func bytesOf(fields ...any) (b []byte) {
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = append(b, byte(f))
		case byte:
			b = append(b, f)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
		case []byte:
			b = append(b, f...)
		default:
			panic("raw: not a field")
		}
	}
	return b
}

// varint reads a Variable Byte Integer in any form. n is its number of bytes.
func varint(t *testing.T, b []byte) (value, n int) {
	t.Helper()
	v, n := binary.Uvarint(b)
	if n <= 0 || n > 4 {
		t.Fatalf("% x does not begin with a Variable Byte Integer", b[:min(len(b), 5)])
	}
	return int(v), n
}

// wantViolation checks that the client answers the packets with a DISCONNECT that has this reason
// code, and handles none of them. It sends them both in one segment and in many.
func wantViolation(t *testing.T, name string, reason byte, packets ...[]byte) {
	t.Helper()
	for how, send := range map[string]func(*fakebroker.Conn, ...[]byte){"whole": (*fakebroker.Conn).Send, "trickled": (*fakebroker.Conn).Trickle} {
		t.Run(name+" "+how, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				_, conn := r.receiver(control.Connack{}, r.keep)
				send(conn, packets...)
				conn.ExpectDisconnect(reason)
				r.wantKept("")
			})
		})
	}
}

// wantHandled checks that the client passes the messages to its handler and that the connection
// stays up.
func wantHandled(t *testing.T, name, payloads string, packets ...[]byte) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			_, conn := r.receiver(control.Connack{}, r.keep)
			conn.Send(packets...)
			r.wantKept(payloads)
			conn.Quiet()
		})
	})
}

// wantRefused checks that Publish accepts none of the messages, stores nothing and sends nothing.
func wantRefused(t *testing.T, messages map[string]client.Message) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for name, m := range messages {
			for m.QoS = client.AtMostOnce; m.QoS <= client.ExactlyOnce; m.QoS++ {
				wantFieldError(t, name, publishError(c, m))
			}
		}
		if n := c.Stats().Store.Accepted; n != 0 {
			t.Errorf("%d messages were stored", n)
		}
		conn.Quiet()
	})
}

func publishError(c *client.Client, m client.Message) error {
	_, err := c.Publish(context.Background(), m)
	return err
}

func wantFieldError(t *testing.T, name string, err error) {
	t.Helper()
	var field *client.FieldError
	if !errors.As(err, &field) {
		t.Errorf("%s: error %v, want a *FieldError", name, err)
	}
}

// wantImpossible checks that New refuses each of these changes to a configuration.
func wantImpossible(t *testing.T, changes map[string]func(*client.Config)) {
	t.Helper()
	for name, change := range changes {
		cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c"}
		change(&cfg)
		c, err := client.New(cfg)
		var bad *client.ConfigError
		if !errors.As(err, &bad) {
			t.Errorf("%s: New returns %v, want a *ConfigError", name, err)
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

// connectFrame returns the client's CONNECT as bytes.
func (r *rig) connectFrame() wire.Frame {
	r.t.Helper()
	r.client()
	return r.Accept().Expect(wire.CONNECT)
}

// store gives the client a store that outlives it. The returned function prepares the store for the
// next process.
func (r *rig) store() (restart func()) {
	store := persistence.NewMemory(persistence.Options{})
	r.cfg.Store.Custom = store
	return func() {
		store = store.Reopen()
		r.cfg.Store.Custom = store
	}
}

// await waits until the client is connected. It has a timeout, so that the fake time does not run
// on indefinitely.
func (r *rig) await(c *client.Client) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), r.Timeout)
	defer cancel()
	if err := c.AwaitConnection(ctx); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.t.Fatalf("the client is not connected after %v (%v); it reported %+v", r.Timeout, err, r.events)
	}
}

// requestTimeout is the maximum time of a SUBSCRIBE or UNSUBSCRIBE.
const requestTimeout = time.Minute

// subscribe subscribes on another goroutine. The channel receives the error when the call returns.
func subscribe(ctx context.Context, c *client.Client, filter string) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		done <- errOf(c.Subscribe(ctx, filter, client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error { return nil })))
	}()
	return done
}

// unsubscribe is like subscribe, for Unsubscribe.
func unsubscribe(ctx context.Context, c *client.Client, filter string) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		done <- c.Unsubscribe(ctx, filter)
	}()
	return done
}

// errOf returns the error of a call.
func errOf[T any](_ T, err error) error { return err }
