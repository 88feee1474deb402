package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
)

// numbered is a message of a sequenced publisher. Its ID follows from its number.
func numbered(topic string, packetID uint16, epoch, seq uint64) wire.Publish {
	return wire.Publish{Topic: topic, QoS: 1, PacketID: packetID, Payload: []byte(fmt.Sprint(epoch, "/", seq)), User: []wire.UserProperty{
		{Key: client.PropPublisher, Value: "p"}, {Key: client.PropEpoch, Value: fmt.Sprint(epoch)}, {Key: client.PropSeq, Value: fmt.Sprint(seq)},
		{Key: client.PropID, Value: client.ParseMessageID(fmt.Sprint(topic, epoch, "/", seq)).String()}}}
}

// withID returns m with another ID; empty: without one.
func withID(m wire.Publish, id string) wire.Publish {
	m.User = slices.DeleteFunc(m.User, func(u wire.UserProperty) bool { return u.Key == client.PropID })
	if id != "" {
		m.User = append(m.User, wire.UserProperty{Key: client.PropID, Value: id})
	}
	m.Payload = append(m.Payload, id...)
	return m
}

// ordered runs a test with a client that restores the order.
func ordered(t *testing.T, o client.Ordering, test func(t *testing.T, c *client.Client, p *peer, in *messageLog, events *recorder)) {
	t.Helper()
	in := newInbox()
	receiving(t, func(cfg *client.Config) { cfg.Receiving.Ordering = &o }, in, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		test(t, c, p, in, events)
	})
}

func wantHandled(t *testing.T, in *messageLog, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := in.payloads(); !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
}

func TestOrdering_RestoresOrder(t *testing.T) {
	ordered(t, client.Ordering{}, func(t *testing.T, c *client.Client, p *peer, in *messageLog, events *recorder) {
		for i, seq := range []uint64{1, 4, 2, 2, 5, 3} {
			p.publish(numbered("t", uint16(i+1), 1, seq))
		}
		wantHandled(t, in, "1/1", "1/2", "1/3", "1/4", "1/5")
		for i := range 6 {
			if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) || a.Reason != 0 {
				t.Errorf("PUBACK %d says 0x%02X", a.PacketID, a.Reason)
			}
		}
		if n := c.Stats().Duplicates; n != 1 {
			t.Errorf("%d duplicates were counted", n)
		}
		p.publish(numbered("t", 1, 2, 1)) // the publisher lost its counters
		wantHandled(t, in, "1/1", "1/2", "1/3", "1/4", "1/5", "2/1")
		if got := eventsOf[client.Gap](events); len(got) != 0 {
			t.Errorf("gaps were reported: %v", got)
		}
	})
}

func TestOrdering_ReportsGapAfterTimeout(t *testing.T) {
	ordered(t, client.Ordering{Options: ordering.Options{GapTimeout: 3 * time.Second}},
		func(t *testing.T, c *client.Client, p *peer, in *messageLog, events *recorder) {
			p.publish(numbered("t", 1, 1, 1))
			p.publish(numbered("t", 2, 1, 4))
			wantHandled(t, in, "1/1")
			time.Sleep(2900 * time.Millisecond)
			wantHandled(t, in, "1/1")
			time.Sleep(200 * time.Millisecond)
			wantHandled(t, in, "1/1", "1/4")
			if got := eventsOf[client.Gap](events); len(got) != 1 || got[0] != (client.Gap{Publisher: "p", Topic: "t", Epoch: 1, From: 2, To: 3}) {
				t.Errorf("Gap events are %+v", got)
			}
			if n := c.Stats().Gaps; n != 1 {
				t.Errorf("%d gaps were counted", n)
			}
			p.publish(numbered("t", 3, 1, 2)) // late, and delivered all the same
			wantHandled(t, in, "1/1", "1/4", "1/2")
			if m := in.messages(); m[0].OutOfOrder || m[1].OutOfOrder || !m[2].OutOfOrder || c.Stats().OutOfOrder != 1 {
				t.Error("the late message, and no other, should be marked as out of order")
			}
			for range 3 {
				p.nextAck(wire.PUBACK)
			}
		})
}

func TestOrdering_AcknowledgesDroppedLateMessage(t *testing.T) {
	ordered(t, client.Ordering{Options: ordering.Options{GapTimeout: time.Second, Late: ordering.DropLate}},
		func(t *testing.T, c *client.Client, p *peer, in *messageLog, _ *recorder) {
			p.publish(numbered("t", 1, 1, 1))
			p.publish(numbered("t", 2, 1, 3))
			time.Sleep(2 * time.Second)
			p.publish(numbered("t", 3, 1, 2))
			p.publish(numbered("t", 4, 1, 4))
			for i := range 4 {
				if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) || a.Reason != 0 {
					t.Errorf("PUBACK %d says 0x%02X", a.PacketID, a.Reason)
				}
			}
			wantHandled(t, in, "1/1", "1/3", "1/4")
			if n := c.Stats().Late; n != 1 {
				t.Errorf("%d were counted as late, want 1", n)
			}
		})
}

func TestOrdering_RestoresPositions(t *testing.T) {
	id := client.ParseMessageID("a")
	ordered(t, client.Ordering{Restore: []client.Position{{Publisher: "p", Topic: "t", Epoch: 1, Seq: 7, IDs: []client.MessageID{id}}}},
		func(t *testing.T, c *client.Client, p *peer, in *messageLog, _ *recorder) {
			p.publish(withID(numbered("t", 1, 1, 7), "a")) // handled before the restart
			p.publish(withID(numbered("t", 2, 1, 7), ""))  // perhaps
			p.publish(numbered("t", 3, 1, 9))
			p.publish(numbered("t", 4, 1, 8))
			wantHandled(t, in, "1/8", "1/9")
			p.publish(withID(numbered("t", 5, 1, 7), "b")) // not handled before
			wantHandled(t, in, "1/8", "1/9", "1/7b")
			if s := c.Stats(); s.Duplicates != 1 || s.NumbersRepeated != 1 || s.NumbersReused != 1 {
				t.Errorf("%+v", s)
			}
		})
}

// A known number with a new ID is a new message, with and without Dedupe.
func TestOrdering_HandlesReusedNumbers(t *testing.T) {
	for name, cache := range map[string]dedupe.Cache{"without Dedupe": nil, "with Dedupe": dedupe.NewMemory(dedupe.Options{})} {
		for _, late := range []ordering.LatePolicy{ordering.DeliverLate, ordering.DropLate} {
			t.Run(fmt.Sprint(name, late), func(t *testing.T) {
				in := newInbox()
				receiving(t, func(cfg *client.Config) {
					cfg.Receiving.Ordering, cfg.Receiving.Dedupe = &client.Ordering{Options: ordering.Options{Late: late}}, cache
				}, in, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
					tag := fmt.Sprint(name, late)
					for i, id := range []string{"a", "a", "b", "b", ""} {
						m := numbered("t", uint16(i+1), 1, 1)
						if id != "" {
							id += tag
						}
						p.publish(withID(m, id))
					}
					p.publish(withID(numbered("t", 6, 1, 2), "c"+tag))
					wantHandled(t, in, "1/1a"+tag, "1/1b"+tag, "1/2c"+tag)
					for i := range 6 {
						if a := p.nextAck(wire.PUBACK); a.PacketID != uint16(i+1) || a.Reason != 0 {
							t.Errorf("PUBACK %d says 0x%02X", a.PacketID, a.Reason)
						}
					}
					if m := in.messages(); m[0].OutOfOrder || !m[1].OutOfOrder || m[2].OutOfOrder {
						t.Error("the second message, and no other, should be marked as out of order")
					}
					reused, repeated := eventsOf[client.NumberReused](events), eventsOf[client.NumberRepeated](events)
					if len(reused) != 1 || len(repeated) != 1 {
						t.Fatalf("%d NumberReused and %d NumberRepeated events, want 1 and 1", len(reused), len(repeated))
					}
					if m := reused[0].Message; m.Origin != (client.Origin{Publisher: "p", Epoch: 1, Seq: 1}) || m.ID != client.ParseMessageID("b"+tag) || !m.OutOfOrder {
						t.Errorf("NumberReused has %+v", m)
					}
					if m := repeated[0].Message; m.Origin.Seq != 1 || !m.ID.IsZero() || m.Topic != "t" {
						t.Errorf("NumberRepeated has %+v", m)
					}
					if s := c.Stats(); s.Duplicates != 2 || s.NumbersReused != 1 || s.NumbersRepeated != 1 || s.OutOfOrder != 1 || s.Handled != 3 {
						t.Errorf("%+v", s)
					}
				})
			})
		}
	}
}

// A message without ID has an identity if DedupeKey returns one; one whose key is empty is compared by ID.
func TestOrdering_IdentifiesByDedupeKey(t *testing.T) {
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Ordering, cfg.Receiving.Dedupe = &client.Ordering{}, dedupe.NewMemory(dedupe.Options{})
		cfg.Receiving.DedupeKey = func(m *client.Message) (string, error) {
			if m.ID.IsZero() {
				return string(m.Payload), nil
			}
			return "", nil
		}
	}, in, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i, m := range []wire.Publish{
			{Payload: []byte("x")}, {Payload: []byte("y")}, {Payload: []byte("y")}, withID(wire.Publish{}, "a"), withID(wire.Publish{}, "a"), withID(wire.Publish{}, "b"),
		} {
			n := numbered("t", uint16(i+1), 1, 1)
			n.Payload, n.User = m.Payload, append(withID(n, "").User, m.User...)
			p.publish(n)
		}
		wantHandled(t, in, "x", "y", "a", "b")
		if s := c.Stats(); s.Duplicates != 2 || s.NumbersRepeated != 0 || s.NumbersReused != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// Messages of a Shared Subscription have gaps by nature: they neither wait nor are gaps reported.
func TestOrdering_ExcludesSharedSubscriptions(t *testing.T) {
	log := &logRecorder{}
	in := newInbox()
	receiving(t, func(cfg *client.Config) {
		cfg.Receiving.Ordering, cfg.Logger = &client.Ordering{Options: ordering.Options{Start: ordering.FromOne}}, slog.New(log)
	}, nil, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		must(t, c.Handle("$share/g/t", in))
		must(t, c.Handle("$share/g/u", in))
		for i, seq := range []uint64{3, 9, 7, 7} {
			p.publish(numbered("t", uint16(i+1), 1, seq))
			p.nextAck(wire.PUBACK)
		}
		wantHandled(t, in, "1/3", "1/9", "1/7", "1/7")
		time.Sleep(time.Minute)
		if s := c.Stats(); s.Gaps != 0 || s.OutOfOrder != 0 || s.NumbersReused != 0 || s.Duplicates != 0 || len(eventsOf[client.Gap](events)) != 0 {
			t.Errorf("%+v", s)
		}
		n := 0
		for _, l := range log.of("") {
			if l.attrs["finding"] == "shared-unordered" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the finding was logged %d times, want once", n)
		}
	})
}

// Each priority of a topic is a sequence of its own, across restarts: an urgent
// message overtakes without being treated as a gap.
func TestSequenced_NumbersEachPriority(t *testing.T) {
	inBubble(t, mqtttest.Options{ReceiveMaximum: 10}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
		var events recorder
		in := newInbox()
		cfg := testConfig("r", &events, b.Dial)
		cfg.Receiving.Ordering = &client.Ordering{}
		receiver := mustStart(t, cfg)
		connect(t, receiver)
		must1(receiver.Subscribe(t.Context(), "#", client.ExactlyOnce, in))
		store := persistence.NewMemory(persistence.Options{})
		const each = 100
		for range 2 {
			cfg := testConfig("pump", &recorder{}, through(proxy))
			cfg.Store.Custom, cfg.Publishing.Sequenced = store, true
			c := mustNew(t, cfg)
			for range each {
				for p := client.Normal; p <= client.Urgent; p++ {
					send(t, c, "x", client.ExactlyOnce, p)
				}
				_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: client.ExactlyOnce, Conflate: true, Payload: []byte("newest")})
				must(t, err)
			}
			start(t, c)
			time.Sleep(time.Millisecond)
			proxy.Cut()
			must(t, c.Drain(t.Context()))
			store = store.Reopen()
		}
		last := map[string]uint64{}
		for _, m := range in.await(t, 2*3*each) {
			if m.Origin.Seq != 0 && m.Origin.Seq != last[m.Origin.Publisher]+1 {
				t.Fatalf("number %d of %q came behind %d", m.Origin.Seq, m.Origin.Publisher, last[m.Origin.Publisher])
			}
			last[m.Origin.Publisher] = m.Origin.Seq
		}
		if last["pump"] != 2*each || last["pump+high"] != 2*each || last["pump+urgent"] != 2*each || len(last) != 4 {
			t.Errorf("the last numbers are %v", last)
		}
		if gaps := eventsOf[client.Gap](&events); len(gaps) > 0 {
			t.Errorf("gaps were reported: %v", gaps)
		}
	})
}

// A message that was set aside is handled again when the application wants it, although its number
// is known and its ID is too.
func TestOrdering_RedeliversSetAsideMessages(t *testing.T) {
	var handled []string
	broken := true
	h := client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		if broken && string(m.Payload) == "1/1" {
			return client.Permanent(errVault)
		}
		handled = append(handled, string(m.Payload))
		return nil
	})
	receiving(t, func(cfg *client.Config) {
		cfg.Dir, cfg.Receiving.Ordering = t.TempDir(), &client.Ordering{}
	}, h, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		p.publish(numbered("t", 1, 1, 1))
		p.publish(numbered("t", 2, 1, 2))
		p.nextAck(wire.PUBACK)
		p.nextAck(wire.PUBACK)
		broken = false
		n := 0
		for m, err := range c.SetAside().All() {
			must(t, err)
			must(t, c.SetAside().Redeliver(m.ID))
			n++
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := fmt.Sprint(handled); n != 1 || got != "[1/2 1/1]" || len(eventsOf[client.NumberReused](events)) != 0 {
			t.Errorf("%d were set aside; handled %v", n, got)
		}
	})
}
