package client_test

import (
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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

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
	"urgent-dropped": offline(func(cfg *client.Config) {
		cfg.Store.Options.Limits.MaxMessages, cfg.Store.WhenFull = 1, client.DropNewest
	}, func(b *lossBed) {
		publish(b, b.c, "t", "secret", client.AtLeastOnce)
		_, err := b.c.Publish(b.Context(), client.Message{Topic: "t", QoS: client.AtLeastOnce, Priority: client.High})
		must(b, err)
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
	"not-deduplicated": received(func(cfg *client.Config) { cfg.Receiving.Dedupe = dedupe.NewMemory(dedupe.Options{}) }, accepting,
		wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: []byte("secret")}),
	"payload-invalid": received(nil, accepting, wire.Publish{Topic: "t", QoS: 1, PacketID: 1, Payload: []byte("secret\xff"), PayloadFormat: 1}),
	"handler-slow":    received(func(cfg *client.Config) { cfg.Receiving.SlowHandlerAfter = time.Second }, blocking, appMessage(1, 1, "secret")),
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

// Every loss is a line at Warn with the default Config, an event, and a counter.
func TestLosses_AreLoggedReportedAndCounted(t *testing.T) {
	for _, k := range client.LossKinds {
		t.Run(k.Name, func(t *testing.T) {
			provoke := provoked[k.Name]
			if provoke == nil {
				t.Fatal("no test provokes this kind")
			}
			lines, level := defaultLog(t), slog.LevelWarn
			if k.Event == nil || k.Name == "message-conflated" { // not a loss
				level = slog.LevelDebug
			}
			b := &lossBed{T: t}
			provoke(b)
			got := lines.of(k.Name)
			if len(got) == 0 || got[0].level != level || got[0].text != k.Text || got[0].attrs["client_id"] != "c" {
				t.Errorf("the lines are %v, and the first should be %v %q", got, level, k.Text)
			}
			if aboutOne := []string{"message-refused", "dead-letter", "failed-in-flight", "message-deferred", "message-expired", "message-dropped", "urgent-dropped", "message-conflated", "handler-failed", "received-refused", "unhandled", "unhandled-waiting", "set-aside", "received-expired", "not-deduplicated", "payload-invalid", "receive-blocked"}; len(got) > 0 && slices.Contains(aboutOne, k.Name) && got[0].attrs["topic"] != "t" {
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
	known := map[string]bool{"Connecting": true, "Connected": true, "Disconnected": true, "Redirected": true, "Stopped": true, "StoreRecovered": true, "SubscriptionGranted": true}
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

// docs/guides/operating.md has a row for each kind, with its line, its event and its counter.
func TestLosses_AreInTheOperatingGuide(t *testing.T) {
	text, err := os.ReadFile("../docs/guides/operating.md")
	must(t, err)
	for _, k := range client.LossKinds {
		event := "none"
		if k.Event != nil {
			event = "`" + reflect.TypeOf(k.Event).Name() + "`"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s | `Stats.%s` | ", k.Name, k.Text, event, k.Counter); !strings.Contains(string(text), row) {
			t.Errorf("docs/guides/operating.md has no row %s", row)
		}
	}
}
