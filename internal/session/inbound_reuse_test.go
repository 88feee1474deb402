package session

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// restart starts a new process with the same store.
func (r *rig) restart() {
	r.start(Config{})
	r.g = nil
}

// finish lets the handler of the last message accept it.
func (r *rig) finish() {
	r.t.Helper()
	r.must(r.s.Complete(r.delivered[len(r.delivered)-1], 0, ""))
}

// record begins a session, and has a QoS 2 message handled and recorded as received.
func (r *rig) record(id uint16, payload string) {
	r.t.Helper()
	r.must(r.publish(r.connect(false, Limits{}), 2, id, payload))
	r.finish()
	r.want(fmt.Sprint("PUBREC ", id))
}

func (r *rig) wantPayloads(want ...string) {
	r.t.Helper()
	if !slices.Equal(r.payloads, want) {
		r.t.Fatalf("delivered %q, want %q", r.payloads, want)
	}
}

// TestInbound_ReusedIdentifierAfterRestart: the fingerprint that an earlier process recorded tells a
// repetition, whatever DUP says, from a new message.
func TestInbound_ReusedIdentifierAfterRestart(t *testing.T) {
	for _, dup := range []bool{false, true} {
		r := newRig(t, Config{})
		r.record(5, "old")
		r.restart()
		g := r.connect(true, Limits{})
		message := func(payload string) error {
			return r.arrive(g, wire.Publish{Topic: "t", QoS: 2, PacketID: 5, Payload: []byte(payload), Dup: dup})
		}
		r.must(message("old"))
		r.want("PUBREC 5")
		r.wantPayloads("old")
		r.restart()
		g = r.connect(true, Limits{})
		r.must(message("new"))
		r.want() // its handler is at work
		r.wantPayloads("old", "new")
		r.finish()
		r.want("PUBREC 5")
		r.restart() // what is on disk is the new one
		g = r.connect(true, Limits{})
		r.must(message("new"))
		r.want("PUBREC 5")
		r.wantPayloads("old", "new")
		r.must(r.ack(g, wire.PUBREL, 5))
		r.want("PUBCOMP 5")
	}
}

// TestInbound_RecordWithoutFingerprint: an earlier release recorded the identifier only, so DUP
// decides. A repetition completes the record.
func TestInbound_RecordWithoutFingerprint(t *testing.T) {
	r := newRig(t, Config{})
	r.store.seen[5], r.store.seen[6] = true, true
	r.restart()
	g := r.connect(true, Limits{})
	r.must(r.again(g, 2, 5, "x"))
	r.want("PUBREC 5")
	r.must(r.publish(g, 2, 6, "new"))
	r.wantPayloads("new")
	if _, seen := r.store.seen[6]; seen {
		t.Error("the record of the older message is still there")
	}
	r.restart()
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 2, 5, "x")) // without DUP: the fingerprint is known by now
	r.want("PUBREC 5")
	r.must(r.again(g, 2, 5, "y"))
	r.must(r.again(g, 2, 6, "new"))
	r.wantPayloads("new", "y", "new")
}

// TestInbound_QoS1UnderARecordedIdentifier: the server uses the identifier for a QoS 1 message, so it
// does not hold the recorded one any more.
func TestInbound_QoS1UnderARecordedIdentifier(t *testing.T) {
	r := newRig(t, Config{})
	r.record(5, "x")
	g := r.connect(true, Limits{})
	r.must(r.publish(g, 1, 5, "x"))
	r.finish()
	r.want("PUBACK 5")
	r.must(r.publish(g, 2, 5, "x"))
	r.wantPayloads("x", "x", "x")
}

// TestInbound_ViolationKeepsTheRecord: another message under the identifier of one whose PUBREC waits
// for its turn is a violation, and the record of that one stays.
func TestInbound_ViolationKeepsTheRecord(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 4, "slow"))
	r.must(r.publish(g, 2, 5, "old"))
	r.finish()
	r.wantCode(r.publish(g, 2, 5, "other"), 0x82)
	r.restart() // killed before PUBREC
	g = r.connect(true, Limits{})
	r.must(r.again(g, 2, 5, "old"))
	r.want("PUBREC 5")
	r.wantPayloads("slow", "old")
}

// TestPubrel_ForAnOlderMessage: a server that was restored to an older state releases a message that
// was completed, while a newer one has its identifier: in hand, or handled and waiting for its turn.
// The record of the newer one stays, and it is not handled twice.
func TestPubrel_ForAnOlderMessage(t *testing.T) {
	for _, c := range []struct {
		name             string
		handled, restart bool // the newer one, before PUBREL; after PUBREL
		reconnect        bool // before PUBREL
	}{
		{"in hand", false, false, false},
		{"in hand, of an earlier connection", false, false, true},
		{"waits for its turn", true, false, false},
		{"waits for its turn, then killed", true, true, false},
		{"handled without a connection", true, false, true},
		{"handled without a connection, then killed", true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Config{})
			g := r.connect(false, Limits{})
			r.must(r.publish(g, 1, 4, "slow"))
			r.must(r.publish(g, 2, 5, "new"))
			if c.reconnect {
				r.s.Detach(g)
			}
			if c.handled {
				r.finish()
			}
			if c.reconnect {
				g = r.connect(true, Limits{})
			}
			r.must(r.ack(g, wire.PUBREL, 5))
			r.want("PUBCOMP 5 0x92")
			if c.restart {
				r.restart()
				g = r.connect(true, Limits{})
			}
			r.must(r.again(g, 2, 5, "new"))
			r.wantPayloads("slow", "new")
			if !c.handled {
				r.finish()
			}
			if !c.restart && !c.reconnect {
				r.must(r.s.Complete(r.delivered[0], 0, ""))
				r.want("PUBACK 4", "PUBREC 5", "PUBREC 5")
			} else {
				r.want("PUBREC 5")
			}
			r.must(r.ack(g, wire.PUBREL, 5))
			r.want("PUBCOMP 5")
			r.must(r.publish(g, 2, 5, "new")) // the identifier is free
			r.wantPayloads("slow", "new", "new")
		})
	}
}

// TestPubrel_ForAnOlderMessageFreesNoRoom: the newer message still counts against the Receive Maximum.
func TestPubrel_ForAnOlderMessageFreesNoRoom(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 1})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "new"))
	r.must(r.ack(g, wire.PUBREL, 5))
	r.wantCode(r.publish(g, 1, 6, "more"), 0x93)
}

// TestInbound_NewMessageUnderAnIdentifierInHand: on a new connection the server sends another message
// under the identifier of one that a handler still has. Both are handled, and only the new one is
// acknowledged and recorded.
func TestInbound_NewMessageUnderAnIdentifierInHand(t *testing.T) {
	for _, oldFirst := range []bool{false, true} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, 2, 5, "old"))
		g = r.connect(true, Limits{})
		r.must(r.again(g, 2, 5, "new"))
		if oldFirst {
			r.must(r.s.Complete(r.delivered[0], 0, ""))
			r.want()
		}
		r.must(r.s.Complete(r.delivered[1], 0, ""))
		r.want("PUBREC 5")
		if !oldFirst {
			r.must(r.s.Complete(r.delivered[0], 0, ""))
			r.want()
		}
		r.restart()
		g = r.connect(true, Limits{})
		r.must(r.again(g, 2, 5, "new"))
		r.want("PUBREC 5")
		r.wantPayloads("old", "new")
	}
}

// TestInbound_LeftUnderARecordedIdentifier: a new message that is given back is delivered the next time.
func TestInbound_LeftUnderARecordedIdentifier(t *testing.T) {
	r := newRig(t, Config{})
	r.record(5, "old")
	g := r.connect(true, Limits{})
	r.must(r.publish(g, 2, 5, "new"))
	r.s.Leave(r.delivered[1])
	for range 2 {
		g = r.connect(true, Limits{})
		r.must(r.again(g, 2, 5, "new"))
	}
	r.wantPayloads("old", "new", "new")
}

// TestInbound_RefusedIsNotRecorded: PUBREC with a reason code from 0x80 frees the identifier. The same
// content under it is a new message then.
func TestInbound_RefusedIsNotRecorded(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0x83, ""))
	r.want("PUBREC 5 0x83")
	r.must(r.publish(g, 2, 5, "x"))
	r.restart()
	g = r.connect(true, Limits{})
	r.must(r.again(g, 2, 5, "x"))
	r.wantPayloads("x", "x", "x")
}

// TestInbound_LostSession: after Session Present 0 nothing is known of any identifier.
func TestInbound_LostSession(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "done"))
	r.finish()
	r.must(r.publish(g, 2, 6, "at work"))
	g = r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "done"))
	r.must(r.publish(g, 2, 6, "at work"))
	r.wantPayloads("done", "at work", "done", "at work")
	r.must(r.s.Complete(r.delivered[1], 0, "")) // of the lost session
	r.want()
	if len(r.store.seen) != 0 {
		t.Errorf("%v are recorded", r.store.seen)
	}
}

// TestFingerprint_Fields: each part of a message that the server must not change counts, and where it ends.
func TestFingerprint_Fields(t *testing.T) {
	user := func(pairs ...string) (list []wire.UserProperty) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, wire.UserProperty{Key: pairs[i], Value: pairs[i+1]})
		}
		return list
	}
	for name, p := range map[string]wire.Publish{
		"topic":          {Topic: "u", Payload: []byte("x")},
		"payload":        {Topic: "t", Payload: []byte("y")},
		"boundary":       {Topic: "tx"},
		"property":       {Topic: "t", Payload: []byte("x"), User: user("a", "b")},
		"key and value":  {Topic: "t", Payload: []byte("x"), User: user("ab", "")},
		"other boundary": {Topic: "t", Payload: []byte("x"), User: user("", "ab")},
		"two":            {Topic: "t", Payload: []byte("x"), User: user("a", "b", "c", "d")},
		"other order":    {Topic: "t", Payload: []byte("x"), User: user("c", "d", "a", "b")},
	} {
		r := newRig(t, Config{})
		r.record(5, "x")
		r.restart()
		g := r.connect(true, Limits{})
		p.QoS, p.PacketID, p.Dup = 2, 5, true
		if r.must(r.arrive(g, p)); len(r.delivered) != 2 {
			t.Errorf("%s: treated as a repetition", name)
		}
	}
	// What a server may change from one delivery to the next.
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.arrive(g, wire.Publish{Topic: "t", QoS: 2, PacketID: 5, MessageExpiry: 60, HasExpiry: true}))
	r.finish()
	r.want("PUBREC 5")
	r.restart()
	g = r.connect(true, Limits{})
	r.must(r.arrive(g, wire.Publish{Topic: "t", QoS: 2, PacketID: 5, Retain: true}))
	if len(r.delivered) != 1 {
		t.Error("a repetition with another expiry and RETAIN flag was delivered")
	}
}
