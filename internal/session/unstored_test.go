package session

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// full is the limits of a server that accepts everything.
var full = Limits{MaximumQoS: 2, RetainAvailable: true}

// unstored publishes an unstored message. Its outcome is appended to outcomes.
func (r *rig) unstored(payload string, outcomes *[]string) error {
	image := wire.AppendPublish(nil, &wire.Publish{Topic: "status", QoS: 1, Payload: []byte(payload)})
	return r.g.PublishUnstored(image, func(reason byte, _ string, err error) {
		*outcomes = append(*outcomes, fmt.Sprintf("%s 0x%02X %v", payload, reason, err))
	})
}

func TestResendUnstored_KeepsOrderAndSetsDup(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, full)
	var outcomes []string
	r.s.low.last = lowest - 3 // the identifiers wrap around, so their order is not the order of sending
	for _, payload := range []string{"a", "b", "c", "d"} {
		r.must(r.unstored(payload, &outcomes))
	}
	r.want("PUBLISH 255 dup=false a", "PUBLISH 256 dup=false b", "PUBLISH 1 dup=false c", "PUBLISH 2 dup=false d")
	r.must(r.ack(r.g, wire.PUBACK, 256))
	g := r.connect(true, full)
	r.must(g.ResendUnstored())
	r.want("PUBLISH 255 dup=true a", "PUBLISH 1 dup=true c", "PUBLISH 2 dup=true d")
	r.must(g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: 1, Reason: 0x87}))
	if fmt.Sprint(outcomes) != "[b 0x00 <nil> c 0x87 <nil>]" {
		t.Errorf("outcomes %q", outcomes)
	}
}

// A message that was sent on this connection must not be resent on it [MQTT-4.4.0-1].
func TestResendUnstored_SkipsMessagesOfThisConnection(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, full)
	var outcomes []string
	r.must(r.unstored("early", &outcomes))
	r.must(r.g.ResendUnstored())
	r.want("PUBLISH 1 dup=false early")
}

func TestResendUnstored_ObeysTheReceiveMaximum(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, full)
	var outcomes []string
	for i := range 5 {
		r.must(r.unstored(fmt.Sprint(i), &outcomes))
	}
	g := r.connect(true, Limits{ReceiveMaximum: 2, MaximumQoS: 2, RetainAvailable: true})
	r.must(g.ResendUnstored())
	r.want("PUBLISH 1 dup=true 0", "PUBLISH 2 dup=true 1")
	if err := r.unstored("new", &outcomes); !errors.Is(err, ErrWindowFull) {
		t.Errorf("a new one before those that wait: %v", err)
	}
	r.must(r.ack(g, wire.PUBACK, 2))
	r.want("PUBLISH 3 dup=true 2")
	for _, id := range []uint16{1, 3, 4, 5} {
		r.must(r.ack(g, wire.PUBACK, id))
	}
	r.want("PUBLISH 4 dup=true 3", "PUBLISH 5 dup=true 4")
	if len(outcomes) != 5 || g.InFlight() != 0 {
		t.Errorf("outcomes %q, %d in flight", outcomes, g.InFlight())
	}
	r.must(r.unstored("new", &outcomes))
}

func TestPublishUnstored_IdentifiersExhausted(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, full)
	var outcomes []string
	for i := range lowest - 1 {
		r.must(r.unstored(fmt.Sprint(i), &outcomes))
	}
	if err := r.unstored("x", &outcomes); !errors.Is(err, ErrIDsInUse) {
		t.Errorf("got %v, want ErrIDsInUse", err)
	}
}

// A birth is published on each connection of an unstable link, and none is acknowledged. There is
// only one message to resend.
func TestPublishUnstored_IdenticalMessagesDoNotAccumulate(t *testing.T) {
	r := newRig(t, Config{})
	image := wire.AppendPublish(nil, &wire.Publish{Topic: "status", QoS: 1, Retain: true, Payload: []byte("online")})
	answered := 0
	for i := range 10 {
		g := r.connect(i > 0, full)
		r.must(g.ResendUnstored())
		r.must(g.PublishUnstored(image, func(byte, string, error) { answered++ }))
		if n := len(r.s.unstored); n != 1 {
			t.Fatalf("%d unstored messages after %d connections", n, i+1)
		}
	}
	for _, d := range slices.Clone(r.s.unstored) {
		r.must(r.ack(r.g, wire.PUBACK, d.id))
	}
	if answered != 1 || len(r.s.unstored) != 0 {
		t.Errorf("answered %d times, %d left", answered, len(r.s.unstored))
	}
}

// A server with Receive Maximum 1 has no free slot for unstored messages. One waits for the next
// acknowledgement and is sent before any offered message.
func TestPublishUnstored_WaitsWithReceiveMaximum1(t *testing.T) {
	r := newRig(t, Config{})
	one := Limits{ReceiveMaximum: 1, MaximumQoS: 2, RetainAvailable: true}
	g := r.connect(false, one)
	r.offer(1, 1)
	var outcomes []string
	r.must(r.unstored("a", &outcomes))
	if err := r.unstored("b", &outcomes); !errors.Is(err, ErrWindowFull) {
		t.Errorf("a second one: %v", err)
	}
	r.must(r.ack(g, wire.PUBACK, PacketID(0, 1)))
	r.want("PUBLISH 1 dup=false a")
	if answer := g.Offer(2, PacketID(0, 2), 1); answer != Wait {
		t.Errorf("a message took its slot: %v", answer)
	}
	r.must(r.ack(g, wire.PUBACK, 1))
	if len(outcomes) != 1 || g.InFlight() != 0 {
		t.Errorf("outcomes %q, %d in flight", outcomes, g.InFlight())
	}

	// A message that waited when the connection ended was never sent.
	r.offer(2, 1)
	r.must(r.unstored("c", &outcomes))
	g = r.connect(true, one)
	r.must(g.ResendUnstored())
	r.want("PUBLISH 2 dup=false c")
	g = r.connect(true, one)
	r.must(g.ResendUnstored())
	r.want("PUBLISH 2 dup=true c")
}

// There are more PUBRELs than the window has room for, and an unstored message is resent.
func TestResendUnstored_AfterPubrels(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, full)
	var outcomes []string
	r.must(r.unstored("a", &outcomes))
	g := r.connect(true, Limits{ReceiveMaximum: 1, MaximumQoS: 2, RetainAvailable: true})
	for seq := range uint64(3) {
		r.store.released[seq+1] = true
		g.OfferReleased(seq+1, PacketID(0, seq+1))
	}
	r.must(g.ResendUnstored())
	for seq := range uint64(3) {
		r.must(r.ack(g, wire.PUBCOMP, PacketID(0, seq+1)))
	}
	if len(g.waiting) > 0 {
		t.Error("it still waits")
	}
}
