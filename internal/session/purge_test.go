package session

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// purging returns a rig on a connection on which some packet identifiers are being purged.
func purging(t *testing.T, ids ...uint16) (*rig, *Generation) {
	r := newRig(t, Config{})
	r.store.released[0] = true // a purge has no message that must be released
	g := r.connect(true, Limits{})
	if n := g.Purge(ids); n != len(ids) {
		t.Fatalf("%d are purged", n)
	}
	var want []string
	for _, id := range ids {
		want = append(want, fmt.Sprint("PUBREL ", id))
	}
	r.want(want...)
	return r, g
}

func TestPurge_HoldsIdentifiersUntilAnswered(t *testing.T) {
	for _, reason := range []byte{0, wire.ReasonPacketIDNotFound} {
		id := PacketID(0, 7)
		r, g := purging(t, id, id+1)
		if a := g.Offer(7, id, 2); a != Taken || !g.IsPurging(id) || g.InUse(id) {
			t.Fatalf("offering a purged identifier: %v", a)
		}
		if a := g.Offer(9, id+2, 2); a != Admitted {
			t.Fatalf("offering another one: %v", a)
		}
		r.must(g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: reason}))
		if g.Purging() != 1 || r.rooms != 1 {
			t.Errorf("%d open, %d calls of Room", g.Purging(), r.rooms)
		}
		if a := g.Offer(7, id, 2); a != Admitted {
			t.Errorf("offering an identifier after its PUBCOMP: %v", a)
		}
		if st := r.s.Stats(); st.UnknownAcks != 0 || len(r.settled) != 0 {
			t.Errorf("%+v, settled %v", st, r.settled)
		}
		r.must(r.ack(g, wire.PUBREC, id))
		r.must(r.ack(g, wire.PUBCOMP, id))
		if !slices.Equal(r.settled, []string{"7 0x00 "}) {
			t.Errorf("settled %v", r.settled)
		}
	}
}

func TestPurge_SparesIdentifiersInUse(t *testing.T) {
	r := newRig(t, Config{})
	r.store.released[0] = true
	g := r.connect(true, Limits{})
	id := r.offer(7, 2)
	used, _ := r.s.low.take()
	if n := g.Purge([]uint16{0, id, id + 1, id + 1, used, lowest - 1}); n != 2 {
		t.Errorf("%d are purged", n)
	}
	r.want(fmt.Sprint("PUBREL ", id+1), "PUBREL 256")
	if n := g.Purge([]uint16{id + 1}); n != 0 {
		t.Errorf("%d are purged again", n)
	}
	r.want()
}

func TestPurge_IsBounded(t *testing.T) {
	r := newRig(t, Config{})
	r.store.released[0] = true
	g := r.connect(true, Limits{})
	var ids []uint16
	for n := range uint64(MaxPurge + 5) {
		ids = append(ids, PacketID(0, n))
	}
	if n := g.Purge(ids); n != MaxPurge || g.Purging() != MaxPurge {
		t.Errorf("%d are purged", n)
	}
	r.flush()
	r.must(r.ack(g, wire.PUBCOMP, ids[0]))
	if n := g.Purge(ids[MaxPurge:]); n != 1 {
		t.Errorf("%d more are purged", n)
	}
}

// Late answers of a server must not affect the messages that use the identifiers by then.
func TestEndPurge_DropsLateAnswers(t *testing.T) {
	id := PacketID(0, 7)
	r, g := purging(t, id, id+1)
	g.EndPurge()
	if g.Purging() != 0 || g.IsPurging(id) {
		t.Fatal("the purge goes on")
	}
	r.offer(7, 2)
	r.must(r.ack(g, wire.PUBCOMP, id)) // of the purge, because the message has no PUBREC
	if len(r.settled) != 0 || g.Purging() != 0 {
		t.Fatalf("settled %v, %d open", r.settled, g.Purging())
	}
	r.must(r.ack(g, wire.PUBREC, id))
	r.must(r.ack(g, wire.PUBCOMP, id))
	if !slices.Equal(r.settled, []string{"7 0x00 "}) {
		t.Errorf("settled %v", r.settled)
	}
	// The server has not answered the purge of id+1, and answers the message.
	r.offer(8, 2)
	r.must(r.ack(g, wire.PUBREC, id+1))
	r.must(r.ack(g, wire.PUBCOMP, id+1))
	if !slices.Equal(r.settled, []string{"7 0x00 ", "8 0x00 "}) {
		t.Errorf("settled %v", r.settled)
	}
	if st := r.s.Stats(); st.UnknownAcks != 0 {
		t.Errorf("%+v", st)
	}
}

func TestPurge_EndsWithTheConnection(t *testing.T) {
	id := PacketID(0, 7)
	r, old := purging(t, id)
	g := r.connect(true, Limits{})
	if g.Purging() != 0 || old.Purge([]uint16{id}) != 0 {
		t.Error("the purge goes on")
	}
	r.want()
	r.offer(7, 2)
	r.wantCode(r.ack(g, wire.PUBCOMP, id), 0x82)
}

// mosquitto refuses a birth because of its quota, like any other message, and closes the
// connection.
func TestHeld_UnstoredMessagesWaitForThePurge(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(true, Limits{MaximumQoS: 2})
	publish := func(payload string) {
		t.Helper()
		image := wire.AppendPublish(nil, &wire.Publish{Topic: "status", QoS: 1, PacketID: 1, Payload: []byte(payload)})
		r.must(g.PublishUnstored(image, func(byte, string, error) {}))
	}
	publish("a")
	r.want("PUBLISH 1 dup=false a")
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: 1, Reason: wire.ReasonQuotaExceeded}))
	if g.Held() {
		t.Error("held on the connection of the refusal")
	}
	g = r.connect(true, Limits{MaximumQoS: 2})
	r.must(g.ResendUnstored())
	publish("b")
	r.want()
	if a := g.Offer(7, PacketID(0, 7), 2); a != Wait || !g.Held() {
		t.Errorf("held %v, offering a message: %v", g.Held(), a)
	}
	r.must(g.Unhold())
	r.must(g.Unhold())
	r.want("PUBLISH 2 dup=false b")
	if a := g.Offer(7, PacketID(0, 7), 2); a != Admitted {
		t.Errorf("offering a message: %v", a)
	}
	if g = r.connect(true, Limits{MaximumQoS: 2}); g.Held() {
		t.Error("held once more")
	}
	g = r.connect(true, Limits{MaximumQoS: 2})
	r.must(g.ResendUnstored())
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: 2, Reason: wire.ReasonQuotaExceeded}))
	if g = r.connect(false, Limits{MaximumQoS: 2}); g.Held() {
		t.Error("held in a new session")
	}
}
