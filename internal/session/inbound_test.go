package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestInbound_QoS0(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 0, 0, "x"))
	r.want()
	if len(r.delivered) != 1 || r.delivered[0] != nil {
		t.Errorf("delivered %v", r.delivered)
	}
}

func TestInbound_QoS2(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.want() // the handler is running
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.want("PUBREC 5")
	r.must(r.publish(g, 2, 5, "x")) // recognized by the identifier, not by DUP [MQTT-4.3.3-10]
	r.want("PUBREC 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5 0x92")
	r.must(r.publish(g, 2, 5, "x")) // the identifier is free, so this is a new message
	if !slices.Equal(r.payloads, []string{"x", "x"}) {
		t.Errorf("delivered %q", r.payloads)
	}
}

func TestInbound_AcksInOrderOfReceipt(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		var want []string
		for i := range 20 {
			qos := byte(1 + i%2)
			r.must(r.publish(g, qos, uint16(i+1), fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("%v %d", map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC}[qos], i+1))
		}
		var got []string
		for _, i := range rnd.Perm(20) {
			r.must(r.s.Complete(r.delivered[i], 0, ""))
			if rnd.IntN(3) == 0 {
				for _, p := range r.sent() {
					got = append(got, p.String())
				}
			}
		}
		for _, p := range r.sent() {
			got = append(got, p.String())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("sent %q", got)
		}
	}
}

func TestComplete_RefusalEndsTheExchange(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 1})
	g := r.connect(false, Limits{})
	for i, qos := range []byte{1, 2, 1, 2} {
		r.must(r.publish(g, qos, uint16(i+1), "x")) // each needs the room of the previous one
		r.must(r.s.Complete(r.delivered[i], 0x87, "no"))
	}
	got := r.sent()
	if fmt.Sprint(got) != "[PUBACK 1 0x87 PUBREC 2 0x87 PUBACK 3 0x87 PUBREC 4 0x87]" || string(got[1].ReasonString) != "no" {
		t.Errorf("sent %v %q", got, got[1].ReasonString)
	}
	r.must(r.publish(g, 2, 2, "x"))
	if len(r.delivered) != 5 {
		t.Error("a refused message counts as seen")
	}
}

// The client must not send what forces the server to close the connection, whatever a handler
// returns. Otherwise the message would be redelivered endlessly.
func TestComplete_ReplacesInvalidRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reason byte
		text   string
		limit  uint32
		want   wire.Ack
	}{
		{"no matching subscribers is for servers", 0x10, "", 0, wire.Ack{}},
		{"success of another packet", 0x04, "", 0, wire.Ack{}},
		{"a code of CONNACK", 0x86, "t", 0, wire.Ack{Reason: 0x80, ReasonString: []byte("t")}},
		{"text too long for MQTT", 0x83, strings.Repeat("x", 65_536), 0, wire.Ack{Reason: 0x83}},
		{"text not UTF-8", 0x83, "\xFF", 0, wire.Ack{Reason: 0x83}},
		{"text too long for the server", 0x83, "0123456789", 18, wire.Ack{Reason: 0x83}},
		{"text that just fits the server", 0x83, "0123456789", 19, wire.Ack{Reason: 0x83, ReasonString: []byte("0123456789")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			g := r.connect(false, Limits{MaximumPacketSize: tt.limit})
			r.must(r.publish(g, 1, 5, "x"))
			r.must(r.s.Complete(r.delivered[0], tt.reason, tt.text))
			got := r.sent()
			if len(got) != 1 || got[0].Reason != tt.want.Reason || string(got[0].ReasonString) != string(tt.want.ReasonString) {
				t.Errorf("sent %v", got)
			}
		})
	}
}

// A message is redelivered after a reconnect while its handler runs. It is not handled a second
// time, and the first handler decides about both copies.
func TestInbound_RedeliveredWhileHandled(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, qos, 5, "x"))
		r.must(r.publish(g, qos, 6, "y"))
		r.must(r.s.Complete(r.delivered[1], 0, "")) // waits for 5
		g = r.connect(true, Limits{})
		r.must(r.again(g, qos, 5, "x"))
		r.must(r.again(g, qos, 6, "y"))
		r.want()
		r.must(r.s.Complete(r.delivered[0], 0, ""))
		ack := map[byte]string{1: "PUBACK", 2: "PUBREC"}[qos]
		r.want(ack+" 5", ack+" 6")
		if len(r.delivered) != 2 || r.s.Stats().Redelivered != 2 {
			t.Errorf("QoS %d: delivered %q, redelivered %d", qos, r.payloads, r.s.Stats().Redelivered)
		}
	}
}

func TestInbound_HandledBeforeRedelivery(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, qos, 5, "x"))
		r.s.Detach(g)
		r.must(r.s.Complete(r.delivered[0], 0, ""))
		r.flush()
		g = r.connect(true, Limits{})
		r.want() // the server has not redelivered the message yet
		r.must(r.again(g, qos, 5, "x"))
		r.want(map[byte]string{1: "PUBACK", 2: "PUBREC"}[qos] + " 5")
		if len(r.delivered) != 1 {
			t.Errorf("QoS %d: delivered %q", qos, r.payloads)
		}
	}
}

func TestInbound_SameIdentifierOtherPayload(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, qos, 5, "old"))
		r.wantCode(r.publish(g, qos, 5, "other"), 0x82) // on one connection, this is a violation
		g = r.connect(true, Limits{})
		r.must(r.publish(g, qos, 5, "new"))
		r.must(r.s.Complete(r.delivered[0], 0, "")) // of a message that is no longer expected
		r.want()
		r.must(r.s.Complete(r.delivered[1], 0, ""))
		r.want(map[byte]string{1: "PUBACK", 2: "PUBREC"}[qos] + " 5")
		if !slices.Equal(r.payloads, []string{"old", "new"}) || r.s.Stats().StaleAcks != 1 {
			t.Errorf("QoS %d: delivered %q, stale %d", qos, r.payloads, r.s.Stats().StaleAcks)
		}
	}
}

func TestInbound_DuplicateOnOneConnection(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.want("PUBACK 5")
	if len(r.delivered) != 1 {
		t.Errorf("delivered %q", r.payloads)
	}
	// At QoS 2 each copy gets its PUBREC [MQTT-4.3.3-10].
	r.must(r.publish(g, 2, 6, "y"))
	r.must(r.publish(g, 2, 6, "y"))
	r.want()
	r.must(r.s.Complete(r.delivered[1], 0, ""))
	r.want("PUBREC 6", "PUBREC 6")
	if len(r.delivered) != 2 || len(g.order) != 0 {
		t.Errorf("delivered %q, %d acknowledgements wait", r.payloads, len(g.order))
	}
}

// An acknowledgement that was queued before the connection changed is not sent on the new one.
func TestAcks_OfAnOlderConnectionAreNotSent(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	if r.s.acks.count != 1 {
		t.Fatalf("%d queued", r.s.acks.count)
	}
	r.connect(true, Limits{})
	r.want()
}

// On a new connection, a server reuses an identifier for a message with the same topic and payload.
// Another message ID, or a missing DUP at QoS 1, makes it a new message.
func TestInbound_SameContentUnderAReusedIdentifier(t *testing.T) {
	id := func(value string) []wire.UserProperty { return []wire.UserProperty{{Key: "m-id", Value: value}} }
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		first := wire.Publish{Topic: "t", QoS: qos, PacketID: 5, Payload: []byte("on"), User: id("a")}
		r.must(r.arrive(g, first))
		g = r.connect(true, Limits{})
		second := first
		second.User, second.Dup = id("b"), true
		r.must(r.arrive(g, second))
		if len(r.delivered) != 2 {
			t.Errorf("QoS %d: %d delivered, the second has another message ID", qos, len(r.delivered))
		}
	}
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 5, "on"))
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 1, 5, "on"))
	if len(r.delivered) != 2 {
		t.Errorf("%d delivered, the second has no DUP flag", len(r.delivered))
	}
}
