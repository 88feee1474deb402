package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// lossBed is where a loss is provoked, with a client whose Logger is the default.
type lossBed struct {
	*testing.T
	events recorder
	c      *client.Client

	mu sync.Mutex // of c, for a slog.Handler
}

func (b *lossBed) set(c *client.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c = c
}

func (b *lossBed) client() *client.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

// scripted provokes a loss with a scripted server that accepts the client. c is not
// started if play is nil.
func scripted(change func(*client.Config), play func(b *lossBed, p *peer)) func(*lossBed) {
	return func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			if change != nil {
				change(&cfg)
			}
			b.set(mustNew(t, cfg))
			start(t, b.c)
			p := s.accept(control.Connack{})
			connect(t, b.c)
			play(&lossBed{T: t, c: b.c}, p)
			synctest.Wait()
			must(t, b.c.Close())
		})
	}
}

// hostFS is a file system of a host.
type hostFS struct {
	*faultfs.FS
	host fsys.Host
}

func (h *hostFS) Host() fsys.Host { return h.host }

// renewed provokes a new epoch: a store is not closed, and opened again on another host.
func renewed(change func(*hostFS)) func(*lossBed) {
	return func(b *lossBed) {
		disk := &hostFS{faultfs.New(), fsys.Host{Boot: 1, Machine: 1}}
		l, err := persistence.Open("log", persistence.Options{FS: disk, Sync: persistence.SyncNever})
		must(b, err)
		disk.FS = disk.Killed()
		must(b, l.Close())
		change(disk)
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Dir, cfg.Store.Options.FS = "log", disk
			b.set(mustNew(t, cfg))
			start(t, b.c)
			synctest.Wait()
			must(t, b.c.Close())
		})
	}
}

// offline provokes a loss without a server.
func offline(change func(*client.Config), play func(b *lossBed)) func(*lossBed) {
	return func(b *lossBed) {
		synctest.Test(b.T, func(t *testing.T) {
			cfg := testConfig("c", &b.events, func() net.Conn { panic("it is not started") })
			if change != nil {
				change(&cfg)
			}
			b.set(mustNew(t, cfg))
			play(&lossBed{T: t, c: b.c})
			must(t, b.c.Close())
		})
	}
}

// received provokes a loss with a handler for all topics and QoS 1 messages from the server.
func received(change func(*client.Config), h client.HandlerFunc, messages ...wire.Publish) func(*lossBed) {
	return scripted(change, func(b *lossBed, p *peer) {
		if h != nil {
			must(b, b.c.Handle("#", h))
		}
		for _, m := range messages {
			p.publish(m)
			time.Sleep(10 * time.Second)
		}
	})
}

// withRetained provokes a loss with a client that reads retained messages.
func withRetained(o mqtttest.Options, play func(r *retaining)) func(*lossBed) {
	return func(b *lossBed) {
		inRetaining(b.T, o, func(cfg *client.Config) { cfg.OnEvent = b.events.add }, func(r *retaining) {
			b.set(r.c)
			play(r)
			synctest.Wait()
			must(r.t, r.c.Close())
		})
	}
}

// refusedWith publishes a message that the server refuses.
func refusedWith(code byte) func(*lossBed, *peer) {
	return func(b *lossBed, p *peer) {
		d := publish(b, b.c, "t", "secret", client.AtLeastOnce)
		m := p.nextPublish()
		for ; m.Topic != "t"; m = p.nextPublish() { // what a slog.Handler publishes
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		p.ack(wire.PUBACK, m.PacketID, code, "no")
		<-d.Done()
	}
}

func accepting(context.Context, *client.Message) error { return nil }

// withAside gives a client a folder, and so a list of set-aside messages.
func withAside(cfg *client.Config) {
	disk := faultfs.New()
	cfg.Dir, cfg.Store.Options.FS = "log", disk
}

// blocking is a handler that returns when its context ends.
func blocking(ctx context.Context, _ *client.Message) error { <-ctx.Done(); return ctx.Err() }

// heavyMessage is a message of 600 bytes.
func heavyMessage(id uint16, qos byte) wire.Publish {
	return wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: make([]byte, 600)}
}

// tight lets two heavy messages in.
func tight(cfg *client.Config) {
	cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes = 2000, 2000
	cfg.Connection.AckTimeout = 5 * time.Second
}

// subscribed subscribes at QoS 2, and the server answers with a reason code.
func subscribed(code byte) func(*lossBed, *peer) {
	return func(b *lossBed, p *peer) {
		answer := make(chan error)
		go func() { answer <- errOf(b.c.Subscribe(b.Context(), "a/b", client.ExactlyOnce, newInbox())) }()
		sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		must(b, err)
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{code}}))
		if err := <-answer; (err != nil) != (code >= 0x80) {
			b.Errorf("Subscribe: %v", err)
		}
	}
}

// damaged damages a message in the folder of the store, which calls f.
func damaged(f func(persistence.Corruption)) func(*lossBed) {
	return func(b *lossBed) {
		broker, dir := mqtttest.Start(b.T), b.TempDir()
		b.set(mustNew(b, client.Config{Servers: []string{broker.URL()}, ClientID: "c", Dir: dir, OnEvent: b.events.add,
			Store: client.StoreConfig{Options: persistence.Options{OnCorruption: f, Files: persistence.Files{BufferBytes: 4 << 10}}}}))
		for i := range 40 {
			publish(b, b.c, "t", fmt.Sprintf("%03d %s", i, bytes.Repeat([]byte("."), 500)), client.AtLeastOnce)
		}
		damage(b.T, dir, []byte("007 ..."))
		start(b, b.c)
		must(b, b.c.Drain(b.Context()))
	}
}

// stuckConn is a connection whose peer reads nothing while stuck is set.
type stuckConn struct {
	net.Conn
	stuck  atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *stuckConn) Write(p []byte) (int, error) {
	if c.stuck.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// brokenCache fails.
type brokenCache struct{ *dedupe.Memory }

func (c *brokenCache) Commit(context.Context, dedupe.Claim) error { return errors.New("disk full") }
