package session

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// deferred publishes on a topic and expects a *DeferredError whose Retry is after wait.
func (r *rig) deferred(topic string, connections int, wait time.Duration) {
	r.t.Helper()
	err := r.g.PublishUnstored(image(topic), func(byte, string, error) { r.t.Error("it was answered") })
	var deferred *DeferredError
	if !errors.As(err, &deferred) || deferred.Topic != topic || deferred.Connections != connections || time.Until(deferred.Retry) != wait {
		r.t.Errorf("got %+v, want a *DeferredError for %d connections, again after %v", err, connections, wait)
	}
}

func image(topic string) []byte {
	return wire.AppendPublish(nil, &wire.Publish{Topic: topic, QoS: 1, Payload: []byte("x")})
}

// end ends the connection on which an unstored message of topic is unacknowledged, n times.
func (r *rig) endOver(topic string, n int) {
	for range n {
		g := r.connect(true, full)
		r.must(g.ResendUnstored())
		r.must(g.PublishUnstored(image(topic), func(byte, string, error) {}))
		r.s.Detach(g)
	}
}

func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{PoisonAttempts: 3})
		r.connect(false, full)
		test(t, r)
	})
}

// After PoisonAttempts connections a topic is deferred. Stored messages are sent first. When one of
// them was acknowledged, one message of the topic is sent alone.
func TestUnstored_DeferredTopicIsTriedAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.endOver("t", 3)
		r.w.out = nil
		g := r.connect(true, full)
		r.must(g.ResendUnstored())
		r.want()
		if g.Unstored() != 0 {
			t.Errorf("%d unstored messages hold up others", g.Unstored())
		}
		r.deferred("t", 3, deferIdle)
		var outcomes []string
		r.must(r.unstored("other", &outcomes)) // another topic is not affected
		r.want("PUBLISH 2 dup=false other")
		r.must(r.ack(g, wire.PUBACK, 2))
		r.offer(1, 1)
		r.offer(2, 2)
		r.offer(3, 1)
		time.Sleep(deferMin)
		r.deferred("t", 3, deferMin)
		r.must(r.ack(g, wire.PUBACK, PacketID(0, 1)))
		answered := 0
		r.must(g.PublishUnstored(image("t"), func(byte, string, error) { answered++ }))
		if err := g.PublishUnstored(image("other"), nil); !errors.Is(err, ErrWindowFull) {
			t.Errorf("beside it: %v", err)
		}
		if answer := g.Offer(4, PacketID(0, 4), 1); answer != Wait || g.Free() != 0 {
			t.Errorf("beside it: %v, %d are free", answer, g.Free())
		}
		r.must(r.ack(g, wire.PUBACK, PacketID(0, 3)))
		r.want() // message 2 is in flight
		r.must(r.ack(g, wire.PUBREC, PacketID(0, 2)))
		r.flush()
		r.want(fmt.Sprint("PUBREL ", PacketID(0, 2)))
		r.must(r.ack(g, wire.PUBCOMP, PacketID(0, 2)))
		r.want("PUBLISH 3 dup=false x")
		if answer := g.Offer(4, PacketID(0, 4), 1); answer != Wait {
			t.Errorf("beside it: %v", answer)
		}
		r.must(r.ack(g, wire.PUBACK, 3))
		r.offer(4, 1)
		r.must(g.PublishUnstored(image("t"), func(byte, string, error) {}))
		if answered != 1 || len(r.s.candidates.topics) != 0 {
			t.Errorf("answered %d times, candidates are %v", answered, r.s.candidates)
		}
	})
}

// Each attempt that ends a connection increases the delay by a factor of two, up to deferMax.
func TestUnstored_DeferredTopicBacksOff(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.endOver("t", 3)
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			g := r.connect(true, full)
			r.must(g.ResendUnstored())
			wait := max(want*time.Second, deferIdle) // nothing else is sent
			r.deferred("t", 3+i, wait)
			time.Sleep(wait - time.Millisecond)
			r.deferred("t", 3+i, deferMin)
			time.Sleep(time.Millisecond)
			r.must(g.PublishUnstored(image("t"), func(byte, string, error) {}))
			r.s.Detach(g)
		}
	})
}

// An acknowledged message, even one with a refusal, is not the cause of the end of a connection.
func TestUnstored_AnsweredTopicIsNotDeferred(t *testing.T) {
	for _, reason := range []byte{0x00, 0x87} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.endOver("t", 2)
			g := r.connect(true, full)
			r.must(g.ResendUnstored())
			r.must(g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: 1, Reason: reason}))
			r.endOver("t", 2)
			r.must(r.connect(true, full).PublishUnstored(image("t"), func(byte, string, error) {}))
		})
	}
}

// Of several messages the first one sent is blamed, and only its topic is deferred.
func TestUnstored_FirstOfSeveralIsBlamed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var outcomes []string
		for range 3 {
			g := r.connect(true, full)
			r.must(g.ResendUnstored())
			r.must(g.PublishUnstored(image("bad"), func(_ byte, _ string, err error) { outcomes = append(outcomes, fmt.Sprint(err)) }))
			r.must(g.PublishUnstored(image("good"), func(byte, string, error) {}))
			r.s.Detach(g)
		}
		r.w.out = nil
		g := r.connect(true, full)
		r.must(g.ResendUnstored())
		if len(outcomes) == 0 || g.Unstored() == 0 || r.s.candidates.deferred("good") != nil || r.s.candidates.deferred("bad") == nil {
			t.Errorf("outcomes %q, %d are left", outcomes, g.Unstored())
		}
		for _, d := range r.s.unstored {
			if d.topic != "good" {
				t.Errorf("a message on %s is left", d.topic)
			}
		}
	})
}
