package deferral_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// fixed is a backoff without randomness: 2 s, 4 s, 8 s, 8 s.
var fixed = reliability.Backoff{Min: time.Second, Max: 8 * time.Second, Rand: func() float64 { return 1 }}

const (
	quota  = wire.ReasonQuotaExceeded
	denied = wire.ReasonNotAuthorized
	inUse  = wire.ReasonPacketIDInUse
)

// rig is a Queue with a clock. Times count from its start.
type rig struct {
	*deferral.Queue
	t     *testing.T
	begin time.Time
	now   time.Time
}

func newRig(t *testing.T) *rig {
	begin := time.UnixMilli(1_700_000_000_000)
	return &rig{Queue: deferral.New(fixed), t: t, begin: begin, now: begin}
}

func (r *rig) pass(d time.Duration) { r.now = r.now.Add(d) }

// message returns a message of ten bytes, with options.
func message(seq uint64, set ...func(*persistence.Entry)) *persistence.Entry {
	e := &persistence.Entry{Seq: seq, Number: seq, Packet: make([]byte, 10)}
	for _, f := range set {
		f(e)
	}
	return e
}

func urgent(e *persistence.Entry) { e.Priority = persistence.Urgent }

// expires returns an option that makes the message expire at a time of the store's clock, in
// milliseconds.
func expires(ms int64) func(*persistence.Entry) {
	return func(e *persistence.Entry) { e.Expires = time.UnixMilli(ms) }
}

func (r *rig) refuse(topic string, seq uint64, id uint16, code byte) (until time.Duration, attempts int) {
	at, attempts := r.Refuse(topic, message(seq), id, code, r.now)
	return at.Sub(r.begin), attempts
}

func (r *rig) follow(topic string, seqs ...uint64) {
	for _, seq := range seqs {
		r.Follow(topic, message(seq), r.now)
	}
}

// acked makes the server acknowledge messages.
func (r *rig) acked(seqs ...uint64) {
	for _, seq := range seqs {
		r.Ended(seq, true, true, r.now)
	}
}

// picks checks which messages may be sent now, in this order.
func (r *rig) picks(want ...uint64) {
	r.t.Helper()
	var got []uint64
	for {
		x, ok := r.Pick(r.now)
		if !ok {
			break
		}
		if x.Alone {
			r.t.Errorf("message %d is picked with others, and sent alone", x.Seq)
		}
		got = append(got, x.Seq)
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("after %v: picked %v, want %v", r.now.Sub(r.begin), got, want)
	}
}

// wants compares a value, with a description.
func wants[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// empty checks that no state of any message is left.
func (r *rig) empty() {
	r.t.Helper()
	wants(r.t, "Any", r.Any(), false)
	wants(r.t, "Messages", r.Messages(), 0)
	wants(r.t, "State", r.Describe(), deferral.State{})
	wants(r.t, "in flight", len(r.InFlight()), 0)
	for id := range 100 {
		if r.Holds(uint16(id), 0) {
			r.t.Errorf("identifier %d is held", id)
		}
	}
	if _, ok := r.Pick(r.now.Add(time.Hour)); ok {
		r.t.Error("a message is left")
	}
}

func (r *rig) inFlight(want ...uint64) {
	r.t.Helper()
	if got := r.InFlight(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("in flight: %v, want %v", got, want)
	}
}
