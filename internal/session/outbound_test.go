package session

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestOutbound_QoS1(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	id := r.offer(7, 1)
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: id, Reason: 0x87, ReasonString: []byte("no")}))
	if !slices.Equal(r.settled, []string{"7 0x87 no"}) || r.rooms != 1 || g.InFlight() != 0 {
		t.Errorf("settled %q, room %d, in flight %d", r.settled, r.rooms, g.InFlight())
	}
}

func TestOutbound_QoS2(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	id := r.offer(7, 2)
	r.must(r.ack(g, wire.PUBREC, id))
	r.must(r.ack(g, wire.PUBREC, id)) // repeated, so PUBREL is repeated [MQTT-4.3.3-4]
	r.want(fmt.Sprint("PUBREL ", id), fmt.Sprint("PUBREL ", id))
	if len(r.settled) != 0 {
		t.Fatal("settled before PUBCOMP")
	}
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: 0x92}))
	if !slices.Equal(r.settled, []string{"7 0x00 "}) {
		t.Errorf("settled %q", r.settled)
	}
}

func TestOutbound_QoS2RefusedByPubrec(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	id := r.offer(7, 2)
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: id, Reason: 0x97, ReasonString: []byte("full")}))
	r.want() // no PUBREL [MQTT-4.3.3-4]
	if !slices.Equal(r.settled, []string{"7 0x97 full"}) || g.InFlight() != 0 {
		t.Errorf("settled %q", r.settled)
	}
}

func TestHandleAck_OutOfStep(t *testing.T) {
	for _, tt := range []struct {
		name string
		qos  byte
		acks []wire.Ack
		code byte
	}{
		{"PUBACK for QoS 2", 2, []wire.Ack{{Type: wire.PUBACK}}, 0x82},
		{"PUBREC for QoS 1", 1, []wire.Ack{{Type: wire.PUBREC}}, 0x82},
		{"PUBCOMP for QoS 1", 1, []wire.Ack{{Type: wire.PUBCOMP}}, 0x82},
		{"PUBCOMP before PUBREC", 2, []wire.Ack{{Type: wire.PUBCOMP}}, 0x82},
		{"PUBREC refuses after it accepted", 2, []wire.Ack{{Type: wire.PUBREC}, {Type: wire.PUBREC, Reason: 0x97}}, 0x82},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			g := r.connect(false, Limits{})
			id := r.offer(1, tt.qos)
			var err error
			for _, a := range tt.acks {
				r.must(err)
				a.PacketID = id
				err = g.HandleAck(a)
			}
			r.wantCode(err, tt.code)
			if len(r.settled) != 0 {
				t.Errorf("settled %q", r.settled)
			}
		})
	}
}

func TestHandleAck_UnknownIdentifiers(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for _, a := range []wire.Ack{{Type: wire.PUBACK, PacketID: 5}, {Type: wire.PUBCOMP, PacketID: 5}, {Type: wire.PUBREC, PacketID: 5, Reason: 0x80}} {
		r.must(g.HandleAck(a))
		r.want()
	}
	r.must(r.ack(g, wire.PUBREC, 5))
	r.want("PUBREL 5 0x92")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5 0x92")
	if n := r.s.Stats().UnknownAcks; n != 5 {
		t.Errorf("%d unknown acknowledgements counted, want 5", n)
	}
}

func TestHandleAck_DropsAcksOfAnOlderConnection(t *testing.T) {
	r := newRig(t, Config{})
	old := r.connect(false, Limits{})
	id := r.offer(1, 1)
	id2 := r.offer(2, 2)
	r.connect(true, Limits{})
	if answer := old.Offer(3, PacketID(0, 3), 1); answer != Gone {
		t.Errorf("an offer to the old connection: %v", answer)
	}
	if old.OfferReleased(3, PacketID(0, 3)) != Gone || !errors.Is(old.PublishUnstored(nil, nil), ErrNotConnected) || !errors.Is(old.ResendUnstored(), ErrNotConnected) {
		t.Error("the old connection still takes messages")
	}
	r.offer(1, 1)
	r.offer(2, 2)
	for _, a := range []wire.Ack{{Type: wire.PUBACK, PacketID: id}, {Type: wire.PUBREC, PacketID: id2}, {Type: wire.PUBREL, PacketID: 9}} {
		r.must(old.HandleAck(a))
	}
	r.must(r.publish(old, 1, 5, "late"))
	r.want()
	if len(r.settled) != 0 || len(r.delivered) != 0 || r.g.InFlight() != 2 || r.s.Stats().StaleAcks != 3 {
		t.Errorf("settled %q, delivered %d, in flight %d, stale %d", r.settled, len(r.delivered), r.g.InFlight(), r.s.Stats().StaleAcks)
	}
}

// The window also applies to resends and releases [MQTT-3.3.4-9]. Stored messages may use the whole
// window. An unstored message without room gets the next free slot.
func TestOffer_ObeysTheReceiveMaximum(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(true, Limits{ReceiveMaximum: 4})
	r.store.released[1] = true
	if g.OfferReleased(1, PacketID(0, 1)) != Admitted {
		t.Fatal("released message not admitted")
	}
	r.offer(2, 1)
	r.offer(3, 2)
	r.offer(4, 1)
	if answer := g.Offer(5, PacketID(0, 5), 1); answer != Wait || g.Free() != 0 {
		t.Errorf("message 5: %v, want Wait; %d are free", answer, g.Free())
	}
	image := wire.AppendPublish(nil, &wire.Publish{Topic: "status", QoS: 1})
	r.must(g.PublishUnstored(image, func(byte, string, error) {}))
	if err := g.PublishUnstored(wire.AppendPublish(nil, &wire.Publish{Topic: "other", QoS: 1}), nil); !errors.Is(err, ErrWindowFull) {
		t.Errorf("second unstored message: %v, want ErrWindowFull", err)
	}
	r.must(r.ack(g, wire.PUBACK, PacketID(0, 2)))
	if answer := g.Offer(5, PacketID(0, 5), 1); answer != Wait {
		t.Errorf("message 5 took the slot of the unstored message: %v", answer)
	}
	r.must(r.ack(g, wire.PUBACK, 1))
	if answer := g.Offer(5, PacketID(0, 5), 1); answer != Admitted || r.rooms != 2 {
		t.Errorf("message 5 after two acknowledgements: %v, room was reported %d times", answer, r.rooms)
	}
	g = r.connect(true, Limits{ReceiveMaximum: 1})
	r.offer(2, 1)
	if answer := g.Offer(3, PacketID(0, 3), 1); answer != Wait {
		t.Errorf("Receive Maximum 1, second message: %v", answer)
	}
}

func TestOffer_WaitsForAnIdentifierInUse(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	id := r.offer(1, 1)
	next := 1 + Lap(0)
	if answer := g.Offer(next, PacketID(0, next), 1); answer != Taken {
		t.Errorf("message a lap later: %v", answer)
	}
	r.must(r.ack(g, wire.PUBACK, id))
	if answer := g.Offer(next, PacketID(0, next), 1); answer != Admitted || PacketID(0, next) != id {
		t.Errorf("message a lap later, after the acknowledgement: %v as %d, want %d", answer, PacketID(0, next), id)
	}
}

func TestPacketIDs(t *testing.T) {
	seen := map[uint16]bool{}
	for p := range uint8(len(ranges)) {
		for n := uint64(1); n <= Lap(p); n++ {
			id := PacketID(p, n)
			if id < lowest || seen[id] {
				t.Fatalf("message %d of priority %d has the identifier %d: taken, or one of the low ones", n, p, id)
			}
			seen[id] = true
			if PacketID(p, n+Lap(p)) != id || PacketID(p, n+7*Lap(p)) != id {
				t.Fatalf("identifiers of priority %d do not repeat after a lap at %d", p, n)
			}
		}
	}
	if len(seen) != 65_535-lowest+1 {
		t.Errorf("%d identifiers are used, and there are %d", len(seen), 65_535-lowest+1)
	}
	// Messages stored by earlier releases keep their identifiers.
	for seq, want := range map[uint64]uint16{1: 1026, 64_510: 65_535, 64_511: 1025, 1 << 40: uint16((1<<40)%64_511 + 1025)} {
		if got := PacketID(0, seq); got != want {
			t.Errorf("message %d has the identifier %d, and had %d", seq, got, want)
		}
	}
	var low lowIDs
	for range lowest - 1 {
		id, ok := low.take()
		if !ok || id == 0 || id >= lowest || seen[id] {
			t.Fatalf("low identifier %d, %v", id, ok)
		}
		seen[id] = true
	}
	if _, ok := low.take(); ok {
		t.Error("more low identifiers than there are")
	}
	low.free(3)
	if id, ok := low.take(); id != 3 || !ok {
		t.Errorf("got %d, %v", id, ok)
	}
}

func TestOfferReleased_SendsPubrel(t *testing.T) {
	r := newRig(t, Config{})
	r.store.released[9] = true
	g := r.connect(true, Limits{})
	if g.OfferReleased(9, PacketID(0, 9)) != Admitted {
		t.Fatal("not admitted")
	}
	id := PacketID(0, 9)
	r.seqs[id] = 9
	r.want(fmt.Sprint("PUBREL ", id))
	r.must(r.ack(g, wire.PUBCOMP, id))
	if !slices.Equal(r.settled, []string{"9 0x00 "}) {
		t.Errorf("settled %q", r.settled)
	}
}

func TestHandleAck_FailedReleaseEndsTheConnection(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	id := r.offer(1, 2)
	r.store.failRelease = errors.New("disk full")
	if err := r.ack(g, wire.PUBREC, id); !errors.Is(err, r.store.failRelease) {
		t.Errorf("got %v", err)
	}
	r.want()
}

func TestBegin_LostSessionVoidsEverything(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for seq := range uint64(5) {
		r.offer(seq+1, 1+byte(seq%2))
	}
	r.must(r.ack(g, wire.PUBACK, PacketID(0, 1)))
	r.must(r.ack(g, wire.PUBREC, PacketID(0, 2)))
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.must(r.publish(g, 1, 6, "y"))
	var result error
	r.must(g.PublishUnstored(wire.AppendPublish(nil, &wire.Publish{Topic: "d", QoS: 1}), func(_ byte, _ string, err error) { result = err }))
	r.lost, r.store.resets = nil, 0
	r.connect(false, Limits{})
	if fmt.Sprint(r.lost) != "[[2 3 4 5]]" {
		t.Errorf("lost %v, want 2 to 5", r.lost)
	}
	if r.store.resets != 1 || !errors.Is(result, ErrSessionLost) || r.s.inbound.len() != 0 {
		t.Errorf("resets %d, the unstored message ended with %v, %d messages are kept", r.store.resets, result, r.s.inbound.len())
	}
	r.must(r.s.Complete(r.delivered[1], 0, "")) // of the lost session
	r.want()
	r.must(r.publish(r.g, 2, 5, "new")) // not treated as the old one
	if got := r.payloads[len(r.payloads)-1]; got != "new" {
		t.Errorf("last delivered %q", got)
	}
}

// Messages that were in flight two connections ago are still in flight if the last connection ended
// before they were offered again.
func TestBegin_LostIncludesEarlierConnections(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, Limits{})
	for seq := range uint64(4) {
		r.offer(seq+1, 1)
	}
	r.connect(true, Limits{})
	r.offer(1, 1)
	r.g.Forget(2) // it has ended meanwhile
	// 3 is offered, 4 is not.
	r.must(r.ack(r.g, wire.PUBACK, r.offer(3, 1)))
	r.connect(true, Limits{})
	r.lost = nil
	r.connect(false, Limits{})
	if fmt.Sprint(r.lost) != "[[1 4]]" {
		t.Errorf("lost %v, want 1 and 4", r.lost)
	}
}

// Messages of a higher priority were accepted later and sent earlier. Messages are resent in the
// order of sending [MQTT-4.6.0-1], after any number of broken connections.
func TestUnacked_KeepsTheOrderOfSending(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, Limits{})
	order := []uint64{5, 1, 2, 9, 3}
	for _, seq := range order {
		r.offer(seq, 2)
	}
	if got := r.g.Unacked(); len(got) != 0 {
		t.Errorf("%v are to be sent again on the connection they were sent on", got)
	}
	old := r.g
	r.connect(true, Limits{})
	if got := r.g.Unacked(); !slices.Equal(got, order) {
		t.Errorf("%v are resent, want %v", got, order)
	}
	if got := old.Unacked(); got != nil {
		t.Errorf("an old connection has %v to send", got)
	}
	r.offer(5, 2) // the connection ends here
	r.connect(true, Limits{})
	if got := r.g.Unacked(); !slices.Equal(got, order) {
		t.Errorf("after another cut %v are resent, want %v", got, order)
	}
	for _, seq := range order {
		r.offer(seq, 2)
	}
	r.offer(4, 2)
	for _, seq := range []uint64{5, 9} {
		r.must(r.ack(r.g, wire.PUBREC, PacketID(0, seq)))
		r.flush()
		r.must(r.ack(r.g, wire.PUBCOMP, PacketID(0, seq)))
	}
	r.connect(true, Limits{})
	if got := r.g.Unacked(); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("%v are resent, want 1 to 4", got)
	}
	r.connect(false, Limits{})
	if got := r.g.Unacked(); len(got) != 0 {
		t.Errorf("%v are resent in a new session", got)
	}
}

// The store cannot void the lost session. The next connection must not resume it, although the
// server has a session by then, which the failed attempt began. The server would answer a PUBREL of
// the lost session with 0x92, and the message would count as delivered.
func TestBegin_ReportsALostSessionUntilAttach(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(true, Limits{})
	r.offer(1, 2)
	r.must(r.ack(r.g, wire.PUBREC, PacketID(0, 1)))
	r.flush()
	if !r.s.Begin(false) {
		t.Fatal("the session is not reported as lost")
	}
	// The store fails, so Attach is not called.
	g := r.connect(true, Limits{})
	if g.Present || r.store.resets != 1 || len(r.store.released) != 0 || fmt.Sprint(r.lost) != "[[1]]" {
		t.Errorf("present %v, resets %d, released %v, lost %v", g.Present, r.store.resets, r.store.released, r.lost)
	}
	if g = r.connect(true, Limits{}); !g.Present {
		t.Error("the reset is still pending")
	}
}
