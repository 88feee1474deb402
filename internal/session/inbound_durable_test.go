package session

import (
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestSeen_SurvivesTheProcess(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	r.must(r.publish(g, 2, 5, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.start(Config{}) // killed: only the store is left
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

// If the record of a handled message cannot be written, the message is not acknowledged. It is not
// handled again either, but recorded when it is redelivered.
func TestSeen_FailureWithholdsPubrec(t *testing.T) {
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
		t.Errorf("the connection is up: %v", r.w.failed)
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

func TestCleared_FailureWithholdsPubcomp(t *testing.T) {
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

// If a Sync fails, nothing is sent and the connection ends.
func TestRunAcks_SendsNothingIfSyncFails(t *testing.T) {
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

func TestRunAcks_SyncsOncePerBatch(t *testing.T) {
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

// A message handled while there is no connection is made durable too.
func TestSeen_IsSyncedWithoutAConnection(t *testing.T) {
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

// A PUBREL is repeated because the first connection ended before the store was synced. The cleared
// record must be durable before the server may reuse the identifier, whatever the reason code of
// the PUBCOMP.
func TestPubrel_RepeatedNeedsASync(t *testing.T) {
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
