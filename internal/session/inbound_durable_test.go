package session

import (
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

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
	if !errors.Is(r.w.failed, r.store.err) || r.w.sends != 0 {
		t.Errorf("connection %v, %d sends", r.w.failed, r.w.sends)
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
