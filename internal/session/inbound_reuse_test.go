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

// finish makes the handler of the last message accept it.
func (r *rig) finish() {
	r.t.Helper()
	r.must(r.s.Complete(r.delivered[len(r.delivered)-1], 0, ""))
}

// record starts a session and makes a QoS 2 message handled and recorded.
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

// The fingerprint that an earlier process recorded distinguishes a repetition from a new message,
// whatever the DUP flag.
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
		r.want() // its handler is running
		r.wantPayloads("old", "new")
		r.finish()
		r.want("PUBREC 5")
		r.restart() // the new record is on disk
		g = r.connect(true, Limits{})
		r.must(message("new"))
		r.want("PUBREC 5")
		r.wantPayloads("old", "new")
		r.must(r.ack(g, wire.PUBREL, 5))
		r.want("PUBCOMP 5")
	}
}

// An earlier release recorded only the identifier, so the DUP flag decides. A repetition completes
// the record.
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
	r.must(r.publish(g, 2, 5, "x")) // without DUP: the fingerprint is known now
	r.want("PUBREC 5")
	r.must(r.again(g, 2, 5, "y"))
	r.must(r.again(g, 2, 6, "new"))
	r.wantPayloads("new", "y", "new")
}

// The server uses the identifier for a QoS 1 message, so it no longer holds the recorded one.
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

// Another message under the identifier of a message whose PUBREC is not sent yet is a violation.
// The record of the first message stays.
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

// A server that was restored to an older state releases a completed message, while a newer one has
// its identifier. The newer one is with its handler, or was handled and waits for its turn. Its
// record stays, and it is not handled twice.
func TestPubrel_ForAnOlderMessage(t *testing.T) {
	for _, c := range []struct {
		name             string
		handled, restart bool // of the newer message, before PUBREL; after PUBREL
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

// The newer message still counts against the Receive Maximum.
func TestPubrel_ForAnOlderMessageFreesNoRoom(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 1})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "new"))
	r.must(r.ack(g, wire.PUBREL, 5))
	r.wantCode(r.publish(g, 1, 6, "more"), 0x93)
}

// On a new connection the server sends another message under the identifier of a message that a
// handler still has. Both are handled, and only the new one is acknowledged and recorded.
func TestInbound_NewMessageUnderAnIdentifierBeingHandled(t *testing.T) {
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

// A new message that was left to the server is delivered the next time.
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

// PUBREC with a reason code from 0x80 frees the identifier. Afterwards, the same content under it
// is a new message.
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

// After Session Present 0, no identifier is known.
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

// Each part that the server must not change affects the fingerprint, and so do the boundaries of
// the parts.
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
	// These parts may change between deliveries.
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
