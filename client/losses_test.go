package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// logRecorder is a slog.Handler that keeps what it gets.
type logRecorder struct {
	mu   sync.Mutex
	list []slog.Record
	also func(slog.Record) // nil: nothing
}

func (l *logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (l *logRecorder) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logRecorder) WithGroup(string) slog.Handler            { return l }

func (l *logRecorder) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	l.list = append(l.list, r.Clone())
	l.mu.Unlock()
	if l.also != nil {
		l.also(r)
	}
	return nil
}

// line is a record as a test looks at it.
type line struct {
	level slog.Level
	text  string
	attrs map[string]string
}

// of returns the lines of a kind; "": all.
func (l *logRecorder) of(kind string) (lines []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.list {
		found := line{r.Level, r.Message, map[string]string{}}
		r.Attrs(func(a slog.Attr) bool { found.attrs[a.Key] = a.Value.String(); return true })
		if kind == "" || found.attrs["kind"] == kind {
			lines = append(lines, found)
		}
	}
	return lines
}

// defaultLog has slog.Default write to a logRecorder until the test ends.
func defaultLog(t *testing.T) *logRecorder {
	l, before := &logRecorder{}, slog.Default()
	slog.SetDefault(slog.New(l))
	t.Cleanup(func() { slog.SetDefault(before) })
	return l
}

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

// provoked has a way to provoke each kind of loss.
var provoked = map[string]func(*lossBed){
	"message-refused": scripted(nil, refusedWith(0x99)),
	"dead-letter":     scripted(func(cfg *client.Config) { cfg.Store.DeadLetters = 5 }, refusedWith(0x99)),
	"dead-letter-dropped": scripted(func(cfg *client.Config) { cfg.Store.DeadLetters = 1 }, func(b *lossBed, p *peer) {
		refusedWith(0x99)(b, p)
		refusedWith(0x99)(b, p)
	}),
	"failed-in-flight": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Session.OnLost = client.FailInFlight
			b.set(mustNew(t, cfg))
			start(t, b.c)
			p := s.accept(control.Connack{})
			d := publish(t, b.c, "t", "secret", client.AtLeastOnce)
			p.nextPublish()
			p.close()
			s.accept(control.Connack{})
			<-d.Done()
			must(t, b.c.Close())
		})
	},
	"message-deferred": scripted(nil, func(b *lossBed, p *peer) {
		publish(b, b.c, "t", "secret", client.AtLeastOnce)
		m := p.nextPublish()
		for ; m.Topic != "t"; m = p.nextPublish() { // what a slog.Handler publishes
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		p.ack(wire.PUBACK, m.PacketID, 0x97, "no")
		synctest.Wait()
	}),
	"message-expired": offline(func(cfg *client.Config) {
		cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) { return nil, net.ErrClosed }
	}, func(b *lossBed) {
		start(b, b.c)
		d, err := b.c.Publish(b.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Expiry: time.Second})
		must(b, err)
		<-d.Done()
	}),
	"message-dropped": offline(func(cfg *client.Config) {
		cfg.Store.Options.Limits.MaxMessages, cfg.Store.WhenFull = 1, client.DropNewest
	}, func(b *lossBed) {
		publish(b, b.c, "t", "secret", client.AtLeastOnce)
		publish(b, b.c, "t", "secret", client.AtLeastOnce)
	}),
	"message-conflated": offline(nil, func(b *lossBed) {
		for range 2 {
			_, err := b.c.Publish(b.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Conflate: true})
			must(b, err)
		}
	}),
	"message-unnumbered": offline(func(cfg *client.Config) {
		cfg.Publishing.Sequenced, cfg.Store.Options.Limits.MaxStreams = true, 1
	}, func(b *lossBed) {
		publish(b, b.c, "t", "secret", client.AtLeastOnce)
		publish(b, b.c, "t/2", "secret", client.AtLeastOnce)
	}),
	"messages-abandoned": offline(nil, func(b *lossBed) { publish(b, b.c, "t", "secret", client.AtLeastOnce) }),
	"handler-failed": func(b *lossBed) {
		failed := false
		received(nil, func(context.Context, *client.Message) error {
			if failed {
				return nil
			}
			failed = true
			return errors.New("no")
		}, appMessage(1, 1, "secret"))(b)
	},
	"received-refused":  received(nil, func(context.Context, *client.Message) error { return client.Refuse(0x83, "no") }, appMessage(1, 1, "secret")),
	"unhandled":         received(func(cfg *client.Config) { cfg.Receiving.UnhandledGrace = time.Second }, nil, appMessage(1, 1, "secret")),
	"unhandled-waiting": received(nil, nil, appMessage(1, 1, "secret")),
	"set-aside":         received(withAside, func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) }, appMessage(1, 1, "secret")),
	"received-expired": received(func(cfg *client.Config) { cfg.Receiving.HandlerBackoff.Min = 2 * time.Second }, func(context.Context, *client.Message) error { return errors.New("no") },
		wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: []byte("secret"), HasExpiry: true, MessageExpiry: 1}),
	"payload-invalid": received(nil, accepting, wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: []byte("secret\xff"), PayloadFormat: 1}),
	"receive-blocked": received(func(cfg *client.Config) { cfg.Receiving.ReceiveMaximum = 1 }, blocking, appMessage(1, 1, "secret")),
	"gap":             received(func(cfg *client.Config) { cfg.Receiving.Ordering = &client.Ordering{} }, accepting, numbered("t", 1, 1, 1), numbered("t", 2, 1, 3)),
	"late-dropped": received(func(cfg *client.Config) {
		cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{Late: ordering.DropLate}}
	}, accepting, numbered("t", 1, 1, 1), numbered("t", 2, 1, 3), numbered("t", 3, 1, 2)),
	"number-reused":   received(func(cfg *client.Config) { cfg.Receiving.Ordering = &client.Ordering{} }, accepting, numbered("t", 1, 1, 1), withID(numbered("t", 2, 1, 1), "b")),
	"number-repeated": received(func(cfg *client.Config) { cfg.Receiving.Ordering = &client.Ordering{} }, accepting, numbered("t", 1, 1, 1), withID(numbered("t", 2, 1, 1), "")),
	"qos0-dropped":    received(tight, blocking, heavyMessage(0, 0), heavyMessage(0, 0), heavyMessage(0, 0)),
	"qos0-lost": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			var conn *stuckConn
			cfg := testConfig("c", &b.events, func() net.Conn {
				conn = &stuckConn{Conn: s.dial(), closed: make(chan struct{})}
				return conn
			})
			b.set(mustNew(t, cfg))
			start(t, b.c)
			p := s.accept(control.Connack{})
			connect(t, b.c)
			synctest.Wait()
			conn.stuck.Store(true)
			for range 3 {
				publish(t, b.c, "t", "secret", client.AtMostOnce)
			}
			synctest.Wait()
			p.close()
			synctest.Wait()
			if got := b.c.Stats().LostQoS0; got != 3 {
				t.Errorf("%d messages lost, want 3", got)
			}
			must(t, b.c.Close())
		})
	},
	"duplicate":               received(func(cfg *client.Config) { cfg.Receiving.Ordering = &client.Ordering{} }, accepting, numbered("t", 1, 1, 1), numbered("t", 2, 1, 1)),
	"read-stalled":            received(tight, blocking, heavyMessage(1, 1), heavyMessage(2, 1), heavyMessage(3, 1)),
	"left-to-server":          received(tight, blocking, heavyMessage(1, 1), heavyMessage(2, 1), heavyMessage(3, 1)),
	"subscription-failed":     scripted(nil, subscribed(0x87)),
	"subscription-downgraded": scripted(nil, subscribed(0)),
	"marker-failed": withRetained(mqtttest.Options{Authorize: func(_ context.Context, _, topic string, _ bool) byte {
		if strings.Contains(topic, "marker") {
			return 0x87
		}
		return 0
	}}, func(r *retaining) { r.fetch("a/+") }),
	"view-full": withRetained(mqtttest.Options{}, func(r *retaining) {
		r.set("a/1", "secret")
		r.set("a/2", "secret")
		_, err := r.c.FetchRetained(r.t.Context(), "a/+", client.RetainedOptions{MaxMessages: 1})
		if limit := (*client.RetainedLimitError)(nil); !errors.As(err, &limit) {
			r.t.Errorf("FetchRetained: %v", err)
		}
	}),
	"changes-missed": withRetained(mqtttest.Options{}, func(r *retaining) {
		v := must1(r.c.MirrorRetained(r.t.Context(), "a/+", client.RetainedOptions{Queue: 1}))
		v.Changes() // and nobody reads
		must1(v.Synced(r.t.Context()))
		for i := range 3 {
			r.set("a/1", fmt.Sprint("secret", i))
		}
	}),
	"events-missed": func(b *lossBed) {
		var gate chan struct{}
		offline(func(cfg *client.Config) {
			cfg.Store.Options.Limits.MaxMessages, cfg.Store.WhenFull = 1, client.DropNewest
			gate = make(chan struct{})
			add := cfg.OnEvent
			cfg.OnEvent = func(e client.Event) { <-gate; add(e) }
		}, func(b *lossBed) {
			for range 100 { // a topic is in each event
				publish(b, b.c, strings.Repeat("t", 60_000), "secret", client.AtLeastOnce)
			}
			close(gate)
			synctest.Wait()
			publish(b, b.c, "t", "secret", client.AtLeastOnce) // its event follows the one for those that were dropped
		})(b)
	},
	"status-failed": scripted(func(cfg *client.Config) {
		cfg.Presence.Status = &client.Status{Topic: "status/c", NoCorrection: true}
		cfg.Presence.MarkerTopic = client.NoMarker
	}, func(_ *lossBed, p *peer) { p.ack(wire.PUBACK, p.nextPublish().PacketID, 0x99, "no") }),
	"status-contested": func(b *lossBed) {
		inBubble(b.T, mqtttest.Options{}, func(t *testing.T, broker *mqtttest.Broker, _ *mqtttest.Proxy) {
			cfg := testConfig("c", &b.events, broker.Dial)
			listening(&cfg)
			b.set(mustNew(t, cfg))
			start(t, b.c)
			connect(t, b.c)
			time.Sleep(time.Second) // until its own birth is back: an earlier one of another is not contested
			other := testConfig("other", &recorder{}, broker.Dial)
			listening(&other)
			other.Presence.Status.NoCorrection = true // or it could be the one that reports
			connect(t, mustStart(t, other))
			time.Sleep(time.Minute)
			must(t, b.c.Close())
		})
	},
	"store-failed": received(func(cfg *client.Config) {
		cfg.Receiving.Dedupe = &brokenCache{dedupe.NewMemory(dedupe.Options{})}
	}, accepting, wire.Publish{Topic: "t", QoS: 1, PacketID: 1, User: []wire.UserProperty{{Key: client.PropID, Value: client.NewMessageID().String()}}}),
	"store-degraded": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			disk := faultfs.New()
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Dir, cfg.Store.Options.FS = "log", disk
			b.set(mustNew(t, cfg))
			failing(disk)(syscall.ENOSPC, faultfs.Create, faultfs.Write)
			_, _ = b.c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1})
			synctest.Wait()
			failing(disk)(nil)
			must(t, b.c.Close())
		})
	},
	"store-damaged": damaged(nil),
	"store-copied":  renewed(func(host *hostFS) { host.host.Machine++ }),
	"store-renewed": renewed(func(host *hostFS) { host.host.Boot++ }),
	"panic": received(func(cfg *client.Config) {
		cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{OnGap: func(ordering.Gap) { panic("no") }}}
	}, accepting, numbered("t", 1, 1, 1), numbered("t", 2, 1, 3)),
	"breaker-opened": scripted(func(cfg *client.Config) {
		cfg.Publishing.Breaker = reliability.BreakerOptions{FailureThreshold: 1, Judge: func(error) reliability.Judgment { return reliability.Failed }}
	}, refusedWith(0x99)),
	"session-lost": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Store.Custom = usedStore(t)
			b.set(mustNew(t, cfg))
			start(t, b.c)
			s.accept(control.Connack{})
			connect(t, b.c)
			must(t, b.c.Close())
		})
	},
	"session-stuck": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Store.Custom = usedStore(t)
			b.set(mustNew(t, cfg))
			start(t, b.c)
			p := s.accept(control.Connack{SessionPresent: true})
			connect(t, b.c)
			publish(t, b.c, "t", "x", client.ExactlyOnce)
			p.refuseAll(3 * time.Minute)
			s.open().close()
			must(t, b.c.Close())
		})
	},
	"purge-given-up": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Store.Custom = lossyStore{usedStore(t)}
			b.set(mustNew(t, cfg))
			start(t, b.c)
			p := s.accept(control.Connack{SessionPresent: true})
			connect(t, b.c)
			time.Sleep(6 * time.Second) // without an answer
			p.close()
			s.open().close()
			must(t, b.c.Close())
		})
	},
	"session-adopted": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			b.set(mustNew(t, testConfig("c", &b.events, s.dial)))
			start(t, b.c)
			s.accept(control.Connack{SessionPresent: true})
			s.accept(control.Connack{SessionPresent: true})
			connect(t, b.c)
			must(t, b.c.Close())
		})
	},
	"session-discarded": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			cfg := testConfig("c", &b.events, s.dial)
			cfg.Session.Expiry = client.NoSession
			b.set(mustNew(t, cfg))
			start(t, b.c)
			s.accept(control.Connack{SessionPresent: true})
			s.accept(control.Connack{})
			connect(t, b.c)
			must(t, b.c.Close())
		})
	},
	"connect-failed": func(b *lossBed) {
		withScript(b.T, func(t *testing.T, s *script) {
			b.set(mustNew(t, testConfig("c", &b.events, s.dial)))
			start(t, b.c)
			s.open().close()
			s.accept(control.Connack{})
			connect(t, b.c)
			must(t, b.c.Close())
		})
	},
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

// Every loss is a line at Warn with the default Config, an event, and a counter.
func TestLosses_AreLoggedReportedAndCounted(t *testing.T) {
	for _, k := range client.LossKinds {
		t.Run(k.Name, func(t *testing.T) {
			provoke := provoked[k.Name]
			if provoke == nil {
				t.Fatal("no test provokes this kind")
			}
			lines, level := defaultLog(t), slog.LevelWarn
			if k.Event == nil {
				level = slog.LevelDebug
			}
			b := &lossBed{T: t}
			provoke(b)
			got := lines.of(k.Name)
			if len(got) == 0 || got[0].level != level || got[0].text != k.Text || got[0].attrs["client_id"] != "c" {
				t.Errorf("the lines are %v, and the first should be %v %q", got, level, k.Text)
			}
			if aboutOne := []string{"message-refused", "dead-letter", "failed-in-flight", "message-deferred", "message-expired", "message-dropped", "message-conflated", "handler-failed", "received-refused", "unhandled", "unhandled-waiting", "set-aside", "received-expired", "payload-invalid", "receive-blocked"}; len(got) > 0 && slices.Contains(aboutOne, k.Name) && got[0].attrs["topic"] != "t" {
				t.Errorf("the lines are %v, and have no topic", got)
			}
			for _, l := range lines.of("") {
				if text := fmt.Sprint(l); strings.Contains(text, "secret") {
					t.Errorf("a line has a payload: %s", text)
				}
			}
			if k.Event != nil && !slices.ContainsFunc(eventsOf[client.Event](&b.events), func(e client.Event) bool { return reflect.TypeOf(e) == reflect.TypeOf(k.Event) }) {
				t.Errorf("no %T was reported", k.Event)
			}
			counter := reflect.ValueOf(b.c.Stats())
			for _, field := range strings.Split(k.Counter, ".") {
				counter = counter.FieldByName(field)
			}
			if !counter.IsValid() || counter.Uint() == 0 {
				t.Errorf("Stats.%s counts nothing", k.Counter)
			}
		})
	}
}

// Each type of event either is that of a kind of loss, or is known to report none.
func TestLosses_HaveAllEvents(t *testing.T) {
	known := map[string]bool{"Connecting": true, "Connected": true, "Disconnected": true, "Redirected": true, "Stopped": true, "StoreRecovered": true}
	for _, k := range client.LossKinds {
		if k.Event != nil {
			known[reflect.TypeOf(k.Event).Name()] = true
		}
	}
	found, files := 0, token.NewFileSet()
	names, err := os.ReadDir(".")
	must(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name.Name(), ".go") || strings.HasSuffix(name.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name.Name(), nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "event" || f.Type.Params.NumFields() > 0 {
				continue
			}
			found++
			if id, ok := f.Recv.List[0].Type.(*ast.Ident); ok && !known[id.Name] {
				t.Errorf("the event %s has no kind of loss: add one to lossKinds, or name it here if it reports no loss", id.Name)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d types of events were found", found)
	}
}

// docs/doctor.md has a row for each kind, with its line, its event and its counter.
func TestLosses_AreInTheDoctor(t *testing.T) {
	text, err := os.ReadFile("../docs/doctor.md")
	must(t, err)
	for _, k := range client.LossKinds {
		event := "none"
		if k.Event != nil {
			event = "`" + reflect.TypeOf(k.Event).Name() + "`"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s | `Stats.%s` | ", k.Name, k.Text, event, k.Counter); !strings.Contains(string(text), row) {
			t.Errorf("docs/doctor.md has no row %s", row)
		}
	}
}

// The first of a kind is a line at once, and the rest of the minute is one line. The
// last one is not lost when the client closes.
func TestLosses_AreSummarized(t *testing.T) {
	lines := defaultLog(t)
	receiving(t, nil, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i := range 130 { // for more than two minutes
			p.publish(wire.Publish{Topic: fmt.Sprint("t/", i), Payload: []byte("secret")})
			time.Sleep(time.Second)
		}
		p.publish(wire.Publish{Topic: "last"})
		synctest.Wait()
		must(t, c.Close())
		got := lines.of("unhandled")
		if len(got) != 4 {
			t.Fatalf("%d lines, want the first, two summaries and the rest at Close: %v", len(got), got)
		}
		total := 1
		for _, l := range got[1:] {
			more := 0
			if _, err := fmt.Sscanf(l.text, "%d more: received message refused", &more); err != nil || l.attrs["more"] != fmt.Sprint(more) {
				t.Errorf("a summary is %v", l)
			}
			total += more
		}
		if total != 131 || got[0].attrs["topic"] != "t/0" || got[3].attrs["topic"] != "last" {
			t.Errorf("%d of 131 were counted in %v", total, got)
		}
	})
}

// A week without a server: a line each minute, and not one for each attempt.
func TestLosses_OutageDoesNotFloodTheLog(t *testing.T) {
	lines := defaultLog(t)
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, func() net.Conn { near, far := net.Pipe(); _ = far.Close(); return near })
		cfg.OnEvent = nil
		cfg.Connection.Backoff = reliability.Backoff{Min: 10 * time.Second, Max: 10 * time.Second}
		c := mustStart(t, cfg)
		time.Sleep(7 * 24 * time.Hour)
		if n := c.Stats().ConnectFailures; n < 60_000 {
			t.Errorf("%d attempts failed", n)
		}
		must(t, c.Close())
		if n := len(lines.of("")); n > 7*24*60+2 || n < 7*24*60-2 {
			t.Errorf("%d lines in %d minutes", n, 7*24*60)
		}
	})
}

// A handler of slog may call the client: no lock is held.
func TestLosses_LogHandlerMayCallTheClient(t *testing.T) {
	for name, call := range map[string]func(c *client.Client){
		"Close":   func(c *client.Client) { _ = c.Close() },
		"Stats":   func(c *client.Client) { c.Stats(); c.State(); c.Session() },
		"Publish": func(c *client.Client) { _, _ = c.Publish(context.Background(), client.Message{Topic: "log", QoS: 1}) },
		"panic":   func(*client.Client) { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range client.LossKinds {
				if k.Event == nil || name == "Close" && k.Name != "unhandled" && k.Name != "message-dropped" {
					continue // Close would end what is provoked
				}
				t.Run(k.Name, func(t *testing.T) {
					lines := defaultLog(t)
					b := &lossBed{T: t}
					lines.also = func(r slog.Record) {
						if c := b.client(); c != nil && r.Level >= slog.LevelWarn {
							call(c)
						}
					}
					provoked[k.Name](b)
					if name != "panic" {
						return
					}
					logger := func(e client.CallbackPanicked) bool { return e.Function == "Logger" }
					if !slices.ContainsFunc(eventsOf[client.CallbackPanicked](&b.events), logger) || b.c.Stats().Panics == 0 {
						t.Error("the panics are not reported and counted")
					}
				})
			}
		})
	}
}

func TestLosses_DiscardHandlerLogsNothing(t *testing.T) {
	lines := defaultLog(t)
	silent := func(cfg *client.Config) { cfg.Logger = slog.New(slog.DiscardHandler) }
	b := &lossBed{T: t}
	received(silent, nil, appMessage(1, 1, "x"))(b)
	if got := lines.of(""); len(got) != 0 || b.c.Stats().Unhandled != 1 {
		t.Errorf("%v was logged", got)
	}
}

// slog.SetDefault also counts after New.
func TestLosses_UsePresentDefaultLogger(t *testing.T) {
	before := defaultLog(t)
	var after *logRecorder
	offline(func(cfg *client.Config) {
		cfg.Store.Options.Limits.MaxMessages, cfg.Store.WhenFull = 1, client.DropNewest
	}, func(b *lossBed) {
		after = defaultLog(t)
		publish(b, b.c, "t", "x", client.AtLeastOnce)
		publish(b, b.c, "t", "x", client.AtLeastOnce)
	})(&lossBed{T: t})
	if len(before.of("")) != 0 || len(after.of("message-dropped")) != 1 {
		t.Errorf("the first logger has %v, the second %v", before.of(""), after.of(""))
	}
}

// A panic of the application does not end the process, and is reported.
func TestLosses_Panics(t *testing.T) {
	for function, provoke := range map[string]func(*lossBed){
		"OnStateChange": scripted(func(cfg *client.Config) {
			cfg.Publishing.Breaker = reliability.BreakerOptions{FailureThreshold: 1, Judge: func(error) reliability.Judgment { return reliability.Failed },
				OnStateChange: func(_, _ reliability.State) { panic("no") }}
		}, refusedWith(0x99)),
		"OnCorruption": damaged(func(persistence.Corruption) { panic("no") }),
		"OnChange": withRetained(mqtttest.Options{}, func(r *retaining) {
			w := must1(r.c.WatchStatus(r.t.Context(), "s/+", client.WatchOptions{OnChange: func(presence.Change) { panic("no") }}))
			must1(w.Synced(r.t.Context()))
		}),
		"Parse": withRetained(mqtttest.Options{}, func(r *retaining) {
			r.set("s/1", "secret")
			w := must1(r.c.WatchStatus(r.t.Context(), "s/+", client.WatchOptions{Parse: func(string, []byte) (presence.Status, error) { panic("no") }}))
			must1(w.Synced(r.t.Context()))
		}),
	} {
		t.Run(function, func(t *testing.T) {
			lines, b := defaultLog(t), &lossBed{T: t}
			provoke(b)
			got := eventsOf[client.CallbackPanicked](&b.events)
			if len(got) == 0 || got[0].Function != function || got[0].Err.Value != "no" {
				t.Errorf("the events are %v", got)
			}
			if l := lines.of("panic"); len(l) == 0 || l[0].attrs["function"] != function || !strings.Contains(l[0].attrs["stack"], "losses_test") {
				t.Errorf("the lines are %v", l)
			}
			if n := b.c.Stats().Panics; n != uint64(len(got)) {
				t.Errorf("%d panics were counted, and %d reported", n, len(got))
			}
		})
	}
}

// A panic of OnEvent is logged and counted, and is no event: that would panic, too.
func TestLosses_OnEventPanics(t *testing.T) {
	lines, b, calls := defaultLog(t), &lossBed{T: t}, 0
	scripted(func(cfg *client.Config) {
		cfg.OnEvent = func(client.Event) { calls++; panic("no") }
	}, func(*lossBed, *peer) {})(b)
	if l := lines.of("panic"); len(l) == 0 || l[0].attrs["function"] != "OnEvent" || b.c.Stats().Panics != uint64(calls) || calls == 0 {
		t.Errorf("%d calls, %d panics were counted, and the lines are %v", calls, b.c.Stats().Panics, l)
	}
}

// Received messages that wait when a client without a lasting session closes are lost.
func TestLosses_WaitingMessagesAtClose(t *testing.T) {
	for expiry, want := range map[time.Duration]int{client.NoSession: 3, time.Hour: 0} {
		b := &lossBed{T: t}
		received(func(cfg *client.Config) {
			cfg.Session.Expiry, cfg.Receiving.Concurrency, cfg.Connection.CloseTimeout = expiry, 1, time.Second
			cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{GapTimeout: time.Hour}}
		}, func(ctx context.Context, m *client.Message) error {
			if m.Topic == "t" {
				return nil
			}
			return blocking(ctx, m)
		}, numbered("t", 1, 1, 1), numbered("t", 2, 1, 3), numbered("u", 3, 1, 1), numbered("u", 4, 1, 2))(b) // handled, held, interrupted, queued
		got := 0
		for _, e := range eventsOf[client.MessagesAbandoned](&b.events) {
			got += e.Received
		}
		if got != want || len(eventsOf[client.Gap](&b.events)) != 0 || b.c.Stats().Gaps != 0 {
			t.Errorf("with a session of %v, %d messages ended with the client, want %d", expiry, got, want)
		}
	}
}

// QoS 0 messages that wait when the client closes are reported, too.
func TestLosses_WaitingQoS0MessagesAtClose(t *testing.T) {
	b := &lossBed{T: t}
	received(func(cfg *client.Config) { cfg.Receiving.Concurrency = 1 }, blocking, wire.Publish{Topic: "1"}, wire.Publish{Topic: "2"}, wire.Publish{Topic: "3"})(b)
	var topics []string
	for _, e := range eventsOf[client.QoS0Dropped](&b.events) {
		topics = append(topics, e.Message.Topic)
	}
	if slices.Sort(topics); !slices.Equal(topics, []string{"1", "2", "3"}) || b.c.Stats().DroppedQoS0 != 3 {
		t.Errorf("dropped were %v, and %d were counted", topics, b.c.Stats().DroppedQoS0)
	}
}
