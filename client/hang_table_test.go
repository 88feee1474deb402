package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// hangKinds are the hangs of TestHang. Each begins the hang in a client that is not started yet or is connected,
// and returns what ends it.
var hangKinds = []struct {
	name   string
	before bool // the hang begins before the connection
	begin  func(t *testing.T, h *hungClient) (release func())
}{
	{"fsync", false, func(_ *testing.T, h *hungClient) func() { return hangDisk(h.disk, faultfs.Sync) }},
	{"write", false, func(_ *testing.T, h *hungClient) func() { return hangDisk(h.disk, faultfs.Write) }},
	{"open", false, func(_ *testing.T, h *hungClient) func() { return hangDisk(h.disk, faultfs.Open, faultfs.Create) }},
	{"read", false, func(_ *testing.T, h *hungClient) func() { return hangDisk(h.disk, faultfs.Read) }},
	{"remove", false, func(_ *testing.T, h *hungClient) func() { return hangDisk(h.disk, faultfs.Remove, faultfs.SyncDir) }},
	{"dial", true, func(_ *testing.T, h *hungClient) func() {
		h.cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			<-h.stuck
			return nil, errors.New("the dial has ended")
		}
		return h.unstick
	}},
	{"credentials", true, func(_ *testing.T, h *hungClient) func() {
		h.cfg.Connection.Credentials = func(context.Context) (client.Credentials, error) {
			<-h.stuck
			return client.Credentials{}, errors.New("the function has ended")
		}
		return h.unstick
	}},
	{"TLS handshake", true, func(t *testing.T, h *hungClient) func() {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		h.cfg.Connection.Dial = func(ctx context.Context, _ *url.URL) (net.Conn, error) {
			c := tls.Client(near, &tls.Config{ServerName: "server"})
			return c, c.HandshakeContext(ctx)
		}
		return func() {}
	}},
	{"peer that reads nothing", true, func(t *testing.T, h *hungClient) func() {
		h.cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			return near, nil
		}
		return func() {}
	}},
	{"peer that stops reading", true, func(t *testing.T, h *hungClient) func() { return stuckPeer(t, h, false) }},
	{"peer that answers nothing", true, func(t *testing.T, h *hungClient) func() { return stuckPeer(t, h, true) }},
	{"handler", false, func(t *testing.T, h *hungClient) func() {
		must1(h.c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error {
			<-h.stuck
			return nil
		})))
		publish(t, h.c, "in", "x", client.AtLeastOnce)
		return h.unstick
	}},
	{"set-aside list", false, func(t *testing.T, h *hungClient) func() {
		must1(h.c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error {
			return client.Permanent(errors.New("no"))
		})))
		release := hangDisk(h.disk, faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir)
		must1(h.b.Publish(mqtttest.Message{Topic: "in", Payload: []byte("x"), QoS: 1}))
		return release
	}},
}

// hungClient is a client of TestHang, with what it needs.
type hungClient struct {
	cfg     client.Config
	c       *client.Client
	b       *mqtttest.Broker
	disk    *faultfs.FS
	stuck   chan struct{}
	pending *client.Delivery
}

func (h *hungClient) unstick() { close(h.stuck) }

const (
	hangLimit = 3 * time.Second // of the contexts of TestHang
	hangClose = 2 * time.Second // CloseTimeout
)

// hangWaits are the waits of TestHang. most is how long the call may take at most.
var hangWaits = []struct {
	name string
	most time.Duration
	call func(ctx context.Context, h *hungClient) error
}{
	{"AwaitConnection", hangLimit, func(ctx context.Context, h *hungClient) error { return h.c.AwaitConnection(ctx) }},
	{"Publish 0", hangLimit, func(ctx context.Context, h *hungClient) error { return publishQoS(ctx, h, 0) }},
	{"Publish 1", hangLimit, func(ctx context.Context, h *hungClient) error { return publishQoS(ctx, h, 1) }},
	{"Publish 2", hangLimit, func(ctx context.Context, h *hungClient) error { return publishQoS(ctx, h, 2) }},
	{"Delivery.Wait", hangLimit, func(ctx context.Context, h *hungClient) error { _, err := h.pending.Wait(ctx); return err }},
	{"Subscribe", hangLimit, func(ctx context.Context, h *hungClient) error {
		_, err := h.c.Subscribe(ctx, "other", client.AtLeastOnce, newInbox())
		return err
	}},
	{"Unsubscribe", hangLimit, func(ctx context.Context, h *hungClient) error { return h.c.Unsubscribe(ctx, "other") }},
	{"Cancel", hangLimit, func(ctx context.Context, h *hungClient) error { _, err := h.c.Cancel(ctx, h.pending.ID); return err }},
	{"Receipt", hangLimit, func(ctx context.Context, h *hungClient) error {
		_, _, err := h.c.Receipt(ctx, h.pending.ID)
		return err
	}},
	{"Stats", 0, func(_ context.Context, h *hungClient) error { h.c.Stats(); return nil }},
	{"State", 0, func(_ context.Context, h *hungClient) error { h.c.State(); return nil }},
	{"Discard", 0, func(_ context.Context, h *hungClient) error { return h.c.SetAside().Discard(1) }},
	{"Drain", hangLimit + hangClose + time.Second, func(ctx context.Context, h *hungClient) error { return h.c.Drain(ctx) }},
	{"Close", hangClose + time.Second, func(_ context.Context, h *hungClient) error { return h.c.Close() }},
}

func publishQoS(ctx context.Context, h *hungClient, qos client.QoS) error {
	_, err := h.c.Publish(ctx, client.Message{Topic: "t", QoS: qos})
	return err
}

// A hang of each kind at each wait: the call returns within its bound, and its error is that of its context if that
// has ended. When the hang has ended, no goroutine is left.
func TestHang(t *testing.T) {
	for _, kind := range hangKinds {
		for _, wait := range hangWaits {
			t.Run(kind.name+"/"+wait.name, func(t *testing.T) {
				inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
					h := &hungClient{b: b, disk: faultfs.New(), stuck: make(chan struct{})}
					h.cfg = testConfig("c", &recorder{}, through(p))
					h.cfg.Dir, h.cfg.Store.Options.FS, h.cfg.Connection.CloseTimeout = "log", h.disk, hangClose
					h.cfg.Store.Options.Retention.MaxReceipts = 100
					var release func()
					if kind.before {
						release = kind.begin(t, h)
						h.c = mustStart(t, h.cfg)
						h.pending = publish(t, h.c, "t", "x", client.AtLeastOnce)
					} else {
						h.c = mustStart(t, h.cfg)
						connect(t, h.c)
						h.pending = publish(t, h.c, "t", "x", client.AtLeastOnce)
						synctest.Wait()
						release = kind.begin(t, h)
					}
					synctest.Wait()
					ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
					defer cancel()
					began := time.Now()
					err := wait.call(ctx, h)
					if took := time.Since(began); took > wait.most {
						t.Errorf("returned after %v, want at most %v (%v)", took, wait.most, err)
					}
					if ctx.Err() != nil && err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%v, want the error of the context", err)
					}
					if began = time.Now(); h.c.Stats().Store.Accepted == 0 || time.Since(began) > 0 {
						t.Error("Stats does not return at once")
					}
					began = time.Now()
					if err := h.c.Close(); time.Since(began) > hangClose+time.Second {
						t.Errorf("Close took %v (%v)", time.Since(began), err)
					}
					release()
					<-h.c.Done()
				})
			})
		}
	}
}

// stuckPeer makes the client dial a server that sends nothing after the CONNACK, and reads what it gets or does not.
func stuckPeer(t *testing.T, h *hungClient, reads bool) (release func()) {
	h.cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		go func() {
			if _, err := wire.NewReader(far, 0).Next(); err != nil {
				return
			}
			if _, err := far.Write(control.AppendConnack(nil, &control.Connack{})); err == nil && reads {
				_, _ = io.Copy(io.Discard, far)
			}
		}()
		return near, nil
	}
	return func() {}
}
