package cure_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/cure"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// rig is a Cure with a store and a session. The session's output is discarded.
type rig struct {
	t     *testing.T
	store *persistence.Memory
	s     *session.Session
	g     *session.Generation
	c     cure.Cure
	held  map[uint16]bool // identifiers of deferred messages
	seq   uint64          // of the messages offered by the test
}

type nowhere struct{}

func (nowhere) Send(func([]byte) []byte) error { return nil }

func (nowhere) Fail(error) {}

// newRig returns a rig on a connection that resumes the session. Its store has assigned n numbers
// of normal priority, and all their messages are completed.
func newRig(t *testing.T, n int) *rig {
	r := &rig{t: t, store: persistence.NewMemory(persistence.Options{}), held: map[uint16]bool{}, seq: 1 << 40}
	r.s = session.New(session.Config{Store: r.store, Settled: func(uint64, byte, string) {}})
	r.add(persistence.Normal, n)
	for seq := range uint64(n) {
		r.done(seq + 1)
	}
	r.connect(true)
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// add adds messages that were sent.
func (r *rig) add(p persistence.Priority, n int) {
	r.t.Helper()
	for range n {
		_, err := r.store.Enqueue(context.Background(), &persistence.Message{Priority: p, Packet: []byte{0x34, 0}})
		r.must(err)
	}
	r.must(r.store.Sync())
	r.must(r.store.SetSent(p, r.store.Sent(p)+uint64(n)))
}

func (r *rig) done(seq uint64) {
	r.t.Helper()
	r.must(r.store.Done(seq, persistence.Result{Kind: persistence.Acked}))
}

// connect starts another connection.
func (r *rig) connect(present bool) {
	r.s.Begin(present)
	r.g = r.s.Attach(nowhere{}, session.Limits{ReceiveMaximum: window, MaximumQoS: 2})
}

// send sends n messages that the server answers.
func (r *rig) send(n int, code byte) {
	r.t.Helper()
	for range n {
		id := r.offer()
		r.must(r.g.HandleAck(wire.Ack{Type: wire.PUBACK, PacketID: id, Reason: code}))
	}
}

// offer sends a message that the server does not answer.
func (r *rig) offer() uint16 {
	r.t.Helper()
	r.seq++
	id := session.PacketID(uint8(persistence.Urgent), r.seq)
	if got := r.g.Offer(r.seq, id, 1); got != session.Admitted {
		r.t.Fatalf("Offer returned %v", got)
	}
	return id
}

// step calls Step.
func (r *rig) step() (wait time.Duration) {
	r.t.Helper()
	wait, err := r.c.Step(r.g, r.store, func(id uint16) bool { return r.held[id] }, r.c.Answered(r.g))
	r.must(err)
	return wait
}

// refused makes the server refuse a message, and calls Step.
func (r *rig) refused(code byte) {
	r.t.Helper()
	r.c.Refused(r.g, code)
	r.step()
}

// purging returns the packet identifiers that are being purged.
func (r *rig) purging() (ids []uint16) {
	for id := range uint16(65_535) {
		if r.g.IsPurging(id + 1) {
			ids = append(ids, id+1)
		}
	}
	return ids
}

// numbers returns the packet identifiers of these numbers of a priority.
func numbers(p persistence.Priority, first, last uint64, but ...uint64) (ids []uint16) {
	for n := first; n <= last; n++ {
		if !slices.Contains(but, n) {
			ids = append(ids, session.PacketID(uint8(p), n))
		}
	}
	return ids
}

// wantPurging checks that exactly these packet identifiers are being purged.
func (r *rig) wantPurging(ids ...[]uint16) {
	r.t.Helper()
	want := slices.Sorted(slices.Values(slices.Concat(ids...)))
	got := r.purging()
	if !slices.Equal(got, want) {
		r.t.Fatalf("%d are purged (%v…), want %d (%v…)", len(got), got[:min(len(got), 5)], len(want), want[:min(len(want), 5)])
	}
	if r.c.Open() != (len(want) > 0) || r.g.Purging() != len(want) {
		r.t.Errorf("open: %v, %d of %d", r.c.Open(), r.g.Purging(), len(want))
	}
}

// normal returns the packet identifiers of these numbers of normal priority.
func normal(first, last uint64, but ...uint64) []uint16 {
	return numbers(persistence.Normal, first, last, but...)
}

// acknowledge makes the server answer a PUBREL.
func (r *rig) acknowledge(id uint16) {
	r.t.Helper()
	r.must(r.g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: wire.ReasonPacketIDNotFound}))
}

// answer makes the server answer the purge.
func (r *rig) answer() {
	r.t.Helper()
	for _, id := range r.purging() {
		if r.c.Answered(r.g) {
			r.t.Fatal("answered before the last PUBCOMP")
		}
		r.acknowledge(id)
	}
	if !r.c.Answered(r.g) {
		r.t.Fatal("not answered after the last PUBCOMP")
	}
	r.step()
	if r.c.Open() || r.c.Answered(r.g) {
		r.t.Fatal("open after the last PUBCOMP")
	}
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
