package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/ordering"
)

// heavy has room for three of its messages.
type heavy struct {
	c      *client.Client
	s      *script
	events recorder
	got    *messageLog
	gate   chan struct{} // a handler takes one, or all when it is closed
	open   func()
}

// large is a message from the server. Three of them fill the buffer.
func large(qos byte, id uint16) wire.Publish {
	return wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(fmt.Sprint(id, strings.Repeat(" ", 900)))}
}

func withHeavy(t *testing.T, edit func(*client.Config), test func(t *testing.T, h *heavy)) {
	t.Helper()
	withScript(t, func(t *testing.T, s *script) {
		h := &heavy{s: s, got: newInbox(), gate: make(chan struct{})}
		h.open = sync.OnceFunc(func() { close(h.gate) })
		cfg := testConfig("c", &h.events, s.dial)
		cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes, cfg.Receiving.Concurrency = 1000, 4000, 1
		if edit != nil {
			edit(&cfg)
		}
		h.c = mustNew(t, cfg)
		t.Cleanup(h.open)
		must(t, h.c.Handle("#", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			select {
			case <-h.gate:
			case <-ctx.Done():
				return ctx.Err()
			}
			return h.got.Handle(ctx, m)
		})))
		start(t, h.c)
		test(t, h)
	})
}

// send sends on another goroutine; done is closed when the client has read it
// all, or nothing more will be.
func (h *heavy) send(p *peer, list ...wire.Publish) (done <-chan struct{}) {
	var all []byte
	for _, m := range list {
		image := wire.AppendPublish(nil, &m)
		all = wire.AppendImage(all, image, m.PacketID, m.Dup, 0)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = p.nc.Write(all)
	}()
	return sent
}

func (h *heavy) ids() (ids string) {
	synctest.Wait()
	for _, text := range h.got.payloads() {
		ids += strings.TrimSpace(text) + " "
	}
	return ids
}

func list(qos byte, from, to uint16) (all []wire.Publish) {
	for id := from; id <= to; id++ {
		all = append(all, large(qos, id))
	}
	return all
}

func redelivered(all []wire.Publish) []wire.Publish {
	for i := range all {
		all[i].Dup = true
	}
	return all
}

func TestInbound_LimitsQoS0Bytes(t *testing.T) {
	withHeavy(t, nil, func(t *testing.T, h *heavy) {
		p := h.s.accept(control.Connack{})
		<-h.send(p, list(0, 0, 0)...)
		for range 9 {
			<-h.send(p, large(0, 0))
		}
		synctest.Wait()
		if st := h.c.Stats(); st.Received != 10 || st.DroppedQoS0 != 7 || st.ReadStalls != 0 || st.InboundBytes < 3*900 || st.InboundBytes > 4000 {
			t.Errorf("%+v", st)
		}
		h.open()
		synctest.Wait()
		if st := h.c.Stats(); st.Handled != 3 || st.InboundBytes != 0 {
			t.Errorf("%d were handled, %d bytes are left", st.Handled, st.InboundBytes)
		}
	})
}

func TestInbound_ReadingStallsAndContinues(t *testing.T) {
	withHeavy(t, func(cfg *client.Config) {
		cfg.Connection.KeepAlive, cfg.Connection.AckTimeout = 4*time.Second, 30*time.Second
	}, func(t *testing.T, h *heavy) {
		p := h.s.accept(control.Connack{})
		mine := publish(t, h.c, "mine", "x", client.AtLeastOnce)
		id := p.nextPublish().PacketID
		time.Sleep(25 * time.Second)         // so long ago was the last acknowledgement
		sent := h.send(p, list(1, 1, 40)...) // more than fits into the reader's buffer
		time.Sleep(25 * time.Second)
		select {
		case <-sent:
			t.Error("all was read, although there is no room")
		default:
		}
		if st := h.c.Stats(); st.InboundBytes > 4000 || st.ReadStalls != 1 || st.Connections != 1 {
			t.Errorf("%+v", st)
		}
		pings := pingsOf(p)
		if pings < 9 {
			t.Errorf("%d PINGREQ came", pings)
		}
		for range 40 {
			h.gate <- struct{}{}
			synctest.Wait()
			if n := h.c.Stats().InboundBytes; n > 4000 {
				t.Errorf("%d bytes are buffered", n)
			}
		}
		<-sent
		for want := range uint16(40) {
			if a := p.nextAck(wire.PUBACK); a.PacketID != want+1 {
				t.Errorf("%d is acknowledged, want %d", a.PacketID, want+1)
			}
		}
		p.ack(wire.PUBACK, id, 0, "")
		wantState(t, mine, client.Acked)
		time.Sleep(time.Minute)
		p.quiet()
		var want string
		for id := range 40 {
			want += fmt.Sprint(id+1) + " "
		}
		if ids := h.ids(); ids != want {
			t.Errorf("handled were %s", ids)
		}
		if n := h.c.Stats().InboundBytes; n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

func TestInbound_AcceptsOneLargeMessage(t *testing.T) {
	withHeavy(t, func(cfg *client.Config) { cfg.Receiving.MaxBufferedBytes = 1 }, func(t *testing.T, h *heavy) {
		p := h.s.accept(control.Connack{})
		h.open()
		small := large(1, 1)
		small.User = make([]wire.UserProperty, 15) // more in memory than on the wire
		small.Payload = small.Payload[:800]
		<-h.send(p, append(list(2, 2, 6), small)...)
		if ids := h.ids(); ids != "2 3 4 5 6 1 " {
			t.Errorf("handled were %s", ids)
		}
	})
}

func TestInbound_StallEndsWithConnection(t *testing.T) {
	stalled := func(t *testing.T, h *heavy) (*peer, <-chan struct{}) {
		p := h.s.accept(control.Connack{})
		sent := h.send(p, list(1, 1, 4)...)
		synctest.Wait()
		if h.c.Stats().ReadStalls != 1 {
			t.Fatal("the reader does not stall")
		}
		return p, sent
	}
	within := func(t *testing.T, what string, f func()) {
		t.Helper()
		began := time.Now()
		f()
		if took := time.Since(began); took > 0 {
			t.Errorf("%s took %v", what, took)
		}
	}
	t.Run("Close", func(t *testing.T) {
		withHeavy(t, func(cfg *client.Config) { cfg.Connection.CloseTimeout = time.Nanosecond }, func(t *testing.T, h *heavy) {
			p, _ := stalled(t, h)
			began := time.Now()
			must(t, h.c.Close())
			if took := time.Since(began); took > time.Nanosecond {
				t.Errorf("Close took %v", took)
			}
			if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0 {
				t.Errorf("DISCONNECT with 0x%02X, %v", d.Reason, err)
			}
		})
	})
	t.Run("a cancelled context", func(t *testing.T) {
		withHeavy(t, nil, func(t *testing.T, h *heavy) {
			stalled(t, h)
			within(t, "the end", func() {
				client.Abort(h.c, errors.New("no more"))
				<-h.c.Done()
			})
		})
	})
	t.Run("a server that hangs up", func(t *testing.T) {
		withHeavy(t, nil, func(t *testing.T, h *heavy) {
			p, sent := stalled(t, h)
			<-sent
			within(t, "noticing it", func() {
				p.close()
				synctest.Wait()
			})
			if n := len(eventsOf[client.Disconnected](&h.events)); n != 1 {
				t.Errorf("%d Disconnected events", n)
			}
			p = h.s.accept(control.Connack{SessionPresent: true})
			h.open()
			<-h.send(p, redelivered(list(1, 1, 5))...)
			if ids := h.ids(); ids != "1 2 3 4 5 " {
				t.Errorf("handled were %s", ids)
			}
		})
	})
	t.Run("Drain, with an acknowledgement after the message", func(t *testing.T) {
		withHeavy(t, nil, func(t *testing.T, h *heavy) {
			p := h.s.accept(control.Connack{})
			mine := publish(t, h.c, "mine", "x", client.AtLeastOnce)
			id := p.nextPublish().PacketID
			small := large(1, 5) // it would have room, but must not overtake
			small.Payload = small.Payload[:1]
			sent := h.send(p, append(list(1, 1, 4), small)...)
			synctest.Wait()
			go func() {
				<-sent
				_, _ = p.nc.Write(wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: id}))
				<-mine.Done()
				if n := h.c.Stats().Received; n != 3 {
					t.Errorf("%d messages were taken, want 3", n)
				}
				h.open()
			}()
			within(t, "Drain", func() { must(t, h.c.Drain(t.Context())) })
			for p.next(wire.PUBACK); ; {
				f, ok := <-p.got
				if !ok {
					break
				}
				if a, err := wire.ParseAck(f); err == nil && f.Type() == wire.PUBACK && a.PacketID > 3 {
					t.Errorf("%d is acknowledged, which had no room", a.PacketID)
				}
			}
		})
	})
}

// The handlers wait for an acknowledgement, and the stalled reader waits for the handlers. The same
// happens on the next connection, on which the server resends its messages before it answers. The client
// ends the deadlock, loses no message and keeps the order.
func TestInbound_HandlersThatWaitForStalledReader(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes, cfg.Receiving.Concurrency = 1000, 4000, 1
		c := mustNew(t, cfg)
		got := newInbox()
		must(t, c.Handle("#", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			d, err := c.Publish(ctx, client.Message{Topic: "answer", Payload: m.Payload[:2], QoS: client.AtLeastOnce})
			if err == nil {
				_, err = d.Wait(ctx)
			}
			if err == nil {
				err = got.Handle(ctx, m)
			}
			return err
		})))
		start(t, c)
		h := &heavy{c: c, s: s, got: got}
		// The server sends all that is not acknowledged at once, and then answers.
		unacked, sent := list(1, 1, 30), 0 // more than fits into the reader's buffer
		serve := func(n int) (last wire.Frame) {
			p := s.accept(control.Connack{SessionPresent: n > 0})
			redelivered(unacked[:sent])
			h.send(p, unacked...)
			synctest.Wait()
			sent = len(unacked)
			for f := range p.got {
				last = f
				switch f.Type() {
				case wire.PUBLISH:
					v, err := wire.ParsePublish(f)
					must(t, err)
					go func() { _, _ = p.nc.Write(wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID})) }()
				case wire.PUBACK:
					a, err := wire.ParseAck(f)
					must(t, err)
					if a.PacketID != unacked[0].PacketID {
						t.Fatalf("%d is acknowledged, want %d", a.PacketID, unacked[0].PacketID)
					}
					if sent, unacked = sent-1, unacked[1:]; sent == 0 {
						return f
					}
				}
			}
			return last
		}
		began := time.Now()
		connections := 0
		for ; len(unacked) > 0 && connections < 60; connections++ {
			last := serve(connections)
			if len(unacked) == 0 {
				break
			}
			if d, err := control.ParseDisconnect(last); err != nil || d.Reason != wire.ReasonQuotaExceeded {
				t.Fatalf("DISCONNECT with 0x%02X, %v, want 0x97", d.Reason, err)
			}
			synctest.Wait()
			var full *client.InboundFullError
			got := eventsOf[client.Disconnected](&events)
			if len(got) != connections+1 || !errors.As(got[connections].Err, &full) || full.Limit != 4000 {
				t.Fatalf("connection %d: Disconnected events are %v", connections, got)
			}
			if got[connections].After.Round(time.Second) != 30*time.Second {
				t.Errorf("the stall lasted %v, want the AckTimeout", got[connections].After)
			}
		}
		// One whose PUBACK was cut off comes twice.
		first, seen := "", map[string]bool{}
		for _, id := range strings.Fields(h.ids()) {
			if !seen[id] {
				first += id + " "
			}
			seen[id] = true
		}
		want := ""
		for id := range 30 {
			want += fmt.Sprint(id+1) + " "
		}
		if first != want {
			t.Errorf("handled were %s", h.ids())
		}
		t.Logf("%d connections, %v", connections+1, time.Since(began))
	})
}

func TestInbound_CountsMessagesHeldForOrder(t *testing.T) {
	withHeavy(t, func(cfg *client.Config) {
		cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{GapTimeout: 10 * time.Second}}
	}, func(t *testing.T, h *heavy) {
		h.open()
		p := h.s.accept(control.Connack{})
		var all []wire.Publish
		for i, seq := range []uint16{1, 3, 4, 5, 6, 7, 1} {
			m := large(1, seq)
			m.PacketID = uint16(i) + 1
			m.Payload = m.Payload[:600]
			m.User = []wire.UserProperty{{Key: client.PropPublisher, Value: "p"}, {Key: client.PropEpoch, Value: "1"}, {Key: client.PropSeq, Value: fmt.Sprint(seq)},
				{Key: client.PropID, Value: fmt.Sprint(seq)}}
			all = append(all, m)
		}
		h.send(p, all...)
		synctest.Wait()
		if st := h.c.Stats(); st.ReadStalls < 1 || st.InboundBytes < 3*600 || st.InboundBytes > 4000 || st.Handled != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(11 * time.Second)
		if ids := h.ids(); ids != "1 3 4 5 6 7 " || h.c.Stats().Duplicates != 1 || h.c.Stats().InboundBytes != 0 {
			t.Errorf("handled were %s, %d bytes are left", ids, h.c.Stats().InboundBytes)
		}
	})
}

func TestInbound_CountsMessagesOfEarlierConnections(t *testing.T) {
	withHeavy(t, nil, func(t *testing.T, h *heavy) {
		p := h.s.accept(control.Connack{})
		<-h.send(p, list(1, 1, 3)...)
		synctest.Wait()
		p.close()
		p = h.s.accept(control.Connack{}) // it has lost the session
		h.send(p, list(1, 4, 6)...)
		synctest.Wait()
		if st := h.c.Stats(); st.ReadStalls != 1 || st.InboundBytes > 4000 {
			t.Errorf("%+v", st)
		}
		h.open()
		if ids := h.ids(); ids != "1 2 3 4 5 6 " || h.c.Stats().InboundBytes != 0 {
			t.Errorf("handled were %s, %d bytes are left", ids, h.c.Stats().InboundBytes)
		}
	})
}
