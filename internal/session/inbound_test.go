package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestQoS0IsDeliveredWithoutAck(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 0, 0, "x"))
	r.want()
	if len(r.delivered) != 1 || r.delivered[0] != nil {
		t.Errorf("delivered %v", r.delivered)
	}
}

func TestInboundQoS2GoesThroughAllFour(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.want() // the handler is at work
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.want("PUBREC 5")
	r.must(r.publish(g, 2, 5, "x")) // by identifier, not by DUP [MQTT-4.3.3-10]
	r.want("PUBREC 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5 0x92")
	r.must(r.publish(g, 2, 5, "x")) // the identifier is free: a new message
	if !slices.Equal(r.payloads, []string{"x", "x"}) {
		t.Errorf("delivered %q", r.payloads)
	}
}

func TestAcksLeaveInReceiptOrder(t *testing.T) {
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

func TestARefusalEndsTheExchange(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 1})
	g := r.connect(false, Limits{})
	for i, qos := range []byte{1, 2, 1, 2} {
		r.must(r.publish(g, qos, uint16(i+1), "x")) // each needs the room of the one before
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

// What a handler says must not make us send what the server has to close the
// connection for: the message would come again, and again.
func TestOnlyWhatMQTTAllowsIsSaidInARefusal(t *testing.T) {
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

// A message that comes again after a reconnect while its handler is at work is
// not handled a second time; the first handler answers for both.
func TestARedeliveryAttachesToTheHandlerAtWork(t *testing.T) {
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

func TestTheResultOfAnOldHandlerWaitsForItsRedelivery(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, qos, 5, "x"))
		r.s.Detach(g)
		r.must(r.s.Complete(r.delivered[0], 0, ""))
		r.flush()
		g = r.connect(true, Limits{})
		r.want() // the server has not asked yet
		r.must(r.again(g, qos, 5, "x"))
		r.want(map[byte]string{1: "PUBACK", 2: "PUBREC"}[qos] + " 5")
		if len(r.delivered) != 1 {
			t.Errorf("QoS %d: delivered %q", qos, r.payloads)
		}
	}
}

func TestTheSameIdentifierWithAnotherPayloadIsANewMessage(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		r := newRig(t, Config{})
		g := r.connect(false, Limits{})
		r.must(r.publish(g, qos, 5, "old"))
		r.wantCode(r.publish(g, qos, 5, "other"), 0x82) // on one connection: a violation
		g = r.connect(true, Limits{})
		r.must(r.publish(g, qos, 5, "new"))
		r.must(r.s.Complete(r.delivered[0], 0, "")) // of a message that nobody waits for
		r.want()
		r.must(r.s.Complete(r.delivered[1], 0, ""))
		r.want(map[byte]string{1: "PUBACK", 2: "PUBREC"}[qos] + " 5")
		if !slices.Equal(r.payloads, []string{"old", "new"}) || r.s.Stats().StaleAcks != 1 {
			t.Errorf("QoS %d: delivered %q, stale %d", qos, r.payloads, r.s.Stats().StaleAcks)
		}
	}
}

func TestTheSameMessageTwiceOnOneConnectionIsHandledOnce(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.want("PUBACK 5")
	if len(r.delivered) != 1 {
		t.Errorf("delivered %q", r.payloads)
	}
	// At QoS 2 each has its PUBREC [MQTT-4.3.3-10].
	r.must(r.publish(g, 2, 6, "y"))
	r.must(r.publish(g, 2, 6, "y"))
	r.want()
	r.must(r.s.Complete(r.delivered[1], 0, ""))
	r.want("PUBREC 6", "PUBREC 6")
	if len(r.delivered) != 2 || len(g.order) != 0 {
		t.Errorf("delivered %q, %d acknowledgements wait", r.payloads, len(g.order))
	}
}

func TestSeenSurvivesTheProcess(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.start(Config{}) // killed: all that is left is the store
	r.g = nil
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.want("PUBREC 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5")
	if len(r.delivered) != 1 {
		t.Errorf("delivered %q", r.payloads)
	}
}

func TestOurReceiveMaximumIsKept(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 2})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 1, "a"))
	r.must(r.publish(g, 1, 2, "b"))
	for _, in := range r.delivered {
		r.must(r.s.Complete(in, 0, ""))
	}
	r.want("PUBREC 1", "PUBACK 2")
	r.must(r.publish(g, 1, 3, "c")) // 2 has gone, 1 waits for PUBREL
	r.wantCode(r.publish(g, 1, 4, "d"), 0x93)
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 2, 1, "a"))
	r.must(r.publish(g, 1, 3, "c"))
	r.wantCode(r.publish(g, 1, 4, "d"), 0x93)
	g = r.connect(true, Limits{})
	r.must(r.ack(g, wire.PUBREL, 1))
	r.must(r.publish(g, 1, 3, "c"))
	r.must(r.publish(g, 1, 4, "d"))
}

// What a resumed session sends again may exceed our Receive Maximum, as
// mosquitto does after a restart; new messages still count.
func TestRedeliveriesDoNotCountAgainstOurReceiveMaximum(t *testing.T) {
	again := func(id uint16) wire.Publish {
		return wire.Publish{Topic: "t", QoS: 1, PacketID: id, Dup: true, Payload: []byte("x")}
	}
	r := newRig(t, Config{ReceiveMaximum: 2})
	g := r.connect(true, Limits{})
	for id := range uint16(10) {
		r.must(r.arrive(g, again(id+1)))
	}
	r.must(r.publish(g, 1, 11, "new"))
	r.must(r.publish(g, 1, 12, "new"))
	r.wantCode(r.publish(g, 1, 13, "new"), 0x93)
	g = r.connect(false, Limits{}) // nothing can come again in a new session
	r.must(r.arrive(g, again(1)))
	r.must(r.arrive(g, again(2)))
	r.wantCode(r.arrive(g, again(3)), 0x93)
}

// A server that repeats itself without end must not fill the memory while the
// connection is stuck.
func TestFloodsAreCutOff(t *testing.T) {
	seen, err := wire.ParsePublish(firstFrame(wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 2, PacketID: 5, Dup: true})))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		blocked bool // by a message that is not handled
		send    func(g *Generation) error
		code    byte
	}{
		{"PUBLISH that waits for another", true, func(g *Generation) error { return g.HandlePublish(seen) }, 0x93},
		{"PUBLISH", false, func(g *Generation) error { return g.HandlePublish(seen) }, 0x96},
		{"PUBREL", false, func(g *Generation) error { return g.HandleAck(wire.Ack{Type: wire.PUBREL, PacketID: 9}) }, 0x96},
		{"PUBREC", false, func(g *Generation) error { return g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: 9}) }, 0x96},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, Config{})
			r.store.seen[5] = true
			r.start(Config{ReceiveMaximum: 10})
			g := r.connect(true, Limits{ReceiveMaximum: 10})
			if tt.blocked {
				r.must(r.publish(g, 1, 4, "slow"))
			}
			var err error
			for i := 0; i < 200_000 && err == nil; i++ {
				err = tt.send(g)
			}
			r.wantCode(err, tt.code)
		})
	}
}

func TestTopicAliases(t *testing.T) {
	r := newRig(t, Config{TopicAliasMaximum: 2})
	r.connect(false, Limits{})
	send := func(topic string, alias uint16) error {
		return r.arrive(r.g, wire.Publish{Topic: topic, TopicAlias: alias, Payload: []byte("x")})
	}
	r.must(send("one", 1))
	r.must(send("", 1))
	r.must(send("two", 2))
	r.must(send("", 1))
	r.must(send("uno", 1)) // set anew
	r.must(send("", 1))
	if want := []string{"one", "one", "two", "one", "uno", "uno"}; !slices.Equal(r.topics, want) {
		t.Errorf("topics %q, want %q", r.topics, want)
	}
	r.wantCode(send("three", 3), 0x94)
	r.connect(true, Limits{}) // aliases end with the connection [MQTT-3.3.2-7]
	r.wantCode(send("", 1), 0x82)
	r.start(Config{})
	r.g = nil
	r.connect(true, Limits{})
	r.wantCode(send("one", 1), 0x94) // none were allowed
}

func TestTopicNamesAreSharedUpToALimit(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for i := range 2 * maxTopics {
		r.must(r.arrive(g, wire.Publish{Topic: fmt.Sprint("t", i), Payload: []byte("x")}))
	}
	if len(g.topics) != maxTopics {
		t.Errorf("%d topics are held, want %d", len(g.topics), maxTopics)
	}
	if r.topics[2*maxTopics-1] != fmt.Sprint("t", 2*maxTopics-1) {
		t.Error("a topic beyond the limit is wrong")
	}
}

// A handled message whose record cannot be written is not acknowledged, and not
// handled again either: it is recorded when it comes again.
func TestASeenRecordThatFailsHoldsThePubrecBack(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.publish(g, 1, 6, "y"))
	r.store.failSeen = errors.New("disk full")
	if err := r.s.Complete(r.delivered[0], 0, ""); !errors.Is(err, r.store.failSeen) {
		t.Fatalf("got %v", err)
	}
	r.must(r.s.Complete(r.delivered[1], 0, ""))
	r.want()
	if !errors.Is(r.w.failed, r.store.failSeen) {
		t.Errorf("the connection stands: %v", r.w.failed)
	}
	g = r.connect(true, Limits{})
	if err := r.publish(g, 2, 5, "x"); !errors.Is(err, r.store.failSeen) {
		t.Errorf("the store still fails: %v", err)
	}
	r.store.failSeen = nil
	g = r.connect(true, Limits{})
	r.must(r.again(g, 2, 5, "x"))
	r.must(r.again(g, 1, 6, "y"))
	r.want("PUBREC 5", "PUBACK 6")
	if len(r.delivered) != 2 {
		t.Errorf("delivered %q", r.payloads)
	}
}

func TestAClearedRecordThatFailsHoldsThePubcompBack(t *testing.T) {
	r := newRig(t, Config{})
	r.store.seen[5] = true
	r.start(Config{})
	g := r.connect(true, Limits{})
	r.store.failClear = errors.New("disk full")
	if err := r.ack(g, wire.PUBREL, 5); !errors.Is(err, r.store.failClear) {
		t.Errorf("got %v", err)
	}
	r.want()
	r.store.failClear = nil
	g = r.connect(true, Limits{})
	r.must(r.ack(g, wire.PUBREL, 5))
	r.want("PUBCOMP 5")
}

// A Sync that fails lets nothing leave and ends the connection.
func TestASyncThatFailsLetsNothingLeave(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 4, "w"))
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.ack(g, wire.PUBREC, r.offer(1, 2)))
	for _, in := range r.delivered {
		r.must(r.s.Complete(in, 0, ""))
	}
	r.store.err = errors.New("i/o error")
	r.want()
	if !errors.Is(r.w.failed, r.store.err) || r.s.Stats().AcksSent != 0 {
		t.Errorf("connection %v, %d sent", r.w.failed, r.s.Stats().AcksSent)
	}
	r.store.err = nil
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.want("PUBREC 5")
}

func TestOneSyncServesAllThatWait(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for i := range 100 {
		r.must(r.publish(g, 2, uint16(i+1), "x"))
		r.must(r.s.Complete(r.delivered[i], 0, ""))
	}
	if n := len(r.sent()); n != 100 || r.store.syncs != 1 || r.w.sends != 1 {
		t.Errorf("%d acknowledgements, %d syncs, %d sends", n, r.store.syncs, r.w.sends)
	}
	for i := range 100 {
		r.must(r.publish(g, 1, uint16(200+i), "x"))
		r.must(r.s.Complete(r.delivered[100+i], 0, ""))
	}
	if n := len(r.sent()); n != 100 || r.store.syncs != 1 {
		t.Errorf("QoS 1: %d acknowledgements, %d syncs in all", n, r.store.syncs)
	}
}

// An acknowledgement that was about to leave when the connection changed does
// not leave on the new one.
func TestAnAckOfAnOlderConnectionIsNotSent(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 1, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	batch, owed := r.s.acks.swap(nil)
	if len(batch) != 1 {
		t.Fatalf("%d queued", len(batch))
	}
	r.connect(true, Limits{})
	r.s.sendAcks(batch, owed)
	r.want()
}

// A message handled while there is no connection is still made durable.
func TestSeenIsSyncedWithoutAConnection(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.publish(g, 2, 6, "y"))
	r.must(r.s.Complete(r.delivered[0], 0, "")) // its PUBREC is queued when the connection ends
	r.s.Detach(g)
	r.must(r.s.Complete(r.delivered[1], 0, ""))
	r.flush()
	if !r.store.seen[5] || !r.store.seen[6] {
		t.Errorf("durable: %v", r.store.seen)
	}
}

// An identifier that a server uses again, on a new connection, for a message
// with the same topic and payload: another message ID, or no DUP at QoS 1, makes
// it a new one.
func TestTheSameContentUnderAUsedIdentifierCanBeANewMessage(t *testing.T) {
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
		t.Errorf("%d delivered, the second does not say that it comes again", len(r.delivered))
	}
}

// PUBREL again, after the first was answered into a connection that went before
// the store was in sync: what was cleared must be durable before the server may
// use the identifier again, whatever the reason code of the PUBCOMP.
func TestPubcompForAClearedIdentifierOwesASync(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.want("PUBREC 5")
	r.must(r.ack(g, wire.PUBREL, 5))
	g = r.connect(true, Limits{}) // before anything was sent
	r.must(r.ack(g, wire.PUBREL, 5))
	if got := r.sent(); len(got) != 1 || got[0].Reason != wire.ReasonPacketIDNotFound {
		t.Errorf("sent %v", got) // the rig checks that the record is durable by then
	}
}

func TestInternedTopicsTakeBoundedMemory(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	long := strings.Repeat("x", 60_000)
	for i := range 100 {
		topic := fmt.Sprint(long, i)
		r.must(r.arrive(g, wire.Publish{Topic: topic}))
		if got := r.topics[len(r.topics)-1]; got != topic {
			t.Fatalf("message %d came with the topic %.20q…", i, got)
		}
	}
	total := 0
	for topic := range g.topics {
		total += len(topic)
	}
	if total > maxTopicBytes || total != g.topicBytes || total < maxTopicBytes-len(long)-2 {
		t.Errorf("%d bytes are held, %d counted, %d allowed", total, g.topicBytes, maxTopicBytes)
	}
}
