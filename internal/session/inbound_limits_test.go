package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestReceiveMaximum_IsEnforced(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 2})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 1, "a"))
	r.must(r.publish(g, 1, 2, "b"))
	for _, in := range r.delivered {
		r.must(r.s.Complete(in, 0, ""))
	}
	r.want("PUBREC 1", "PUBACK 2")
	r.must(r.publish(g, 1, 3, "c")) // 2 is finished, 1 waits for PUBREL
	r.wantCode(r.publish(g, 1, 4, "d"), 0x93)
	g = r.connect(false, Limits{})
	r.must(r.publish(g, 1, 1, "e"))
	r.must(r.publish(g, 1, 2, "f"))
	if _, full, _ := r.s.Oldest(); !full {
		t.Error("the server may send more")
	}
}

// The messages of a resumed session may exceed the client's Receive Maximum, because mosquitto
// sends all of them after a restart. The number of packet identifiers limits them.
func TestReceiveMaximum_IsNoLimitInAResumedSession(t *testing.T) {
	message := func(id uint16, dup bool) wire.Publish {
		return wire.Publish{Topic: "t", QoS: 1, PacketID: id, Dup: dup, Payload: []byte("x")}
	}
	r := newRig(t, Config{ReceiveMaximum: 2})
	g := r.connect(true, Limits{})
	for id := 1; id <= 65_535; id++ {
		r.must(r.arrive(g, message(uint16(id), id%2 == 0)))
	}
	if len(r.delivered) != 65_535 {
		t.Errorf("%d messages were delivered", len(r.delivered))
	}
	r.wantCode(r.arrive(g, message(1, true)), 0x93)
	for _, in := range r.delivered {
		r.must(r.s.Complete(in, 0, ""))
	}
	g = r.connect(false, Limits{}) // a new session has no waiting messages
	r.must(r.arrive(g, message(1, true)))
	r.must(r.arrive(g, message(2, true)))
	r.wantCode(r.arrive(g, message(3, true)), 0x93)
}

// A server that repeats packets endlessly must not fill the memory while the connection is blocked.
func TestAcks_EndAFloodingConnection(t *testing.T) {
	seen, err := wire.ParsePublish(firstFrame(wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 2, PacketID: 5, Dup: true})))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		blocked bool // by an unhandled message
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
	r.must(send("uno", 1)) // the alias gets another topic
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
	r.wantCode(send("one", 1), 0x94) // the client allowed none
}

func TestTopics_InternedUpToALimit(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	for i := range 2 * maxTopics {
		r.must(r.arrive(g, wire.Publish{Topic: fmt.Sprint("t", i), Payload: []byte("x")}))
	}
	if len(g.topics.interned) != maxTopics {
		t.Errorf("%d topics are held, want %d", len(g.topics.interned), maxTopics)
	}
	if r.topics[2*maxTopics-1] != fmt.Sprint("t", 2*maxTopics-1) {
		t.Error("a topic beyond the limit is wrong")
	}
}

func TestTopics_InternedMemoryIsBounded(t *testing.T) {
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
	for topic := range g.topics.interned {
		total += len(topic)
	}
	if total > maxTopicBytes || total != g.topics.bytes || total < maxTopicBytes-len(long)-2 {
		t.Errorf("%d bytes are held, %d counted, %d allowed", total, g.topics.bytes, maxTopicBytes)
	}
}
