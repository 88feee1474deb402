package session

import (
	"errors"
	"testing"
)

// A message that is left to the server repeatedly does not count against the limit of handled
// messages, and is handled eventually.
func TestLeave_DoesNotCountAsHandling(t *testing.T) {
	r := newRig(t, Config{ReceiveMaximum: 2})
	for i := range 20 {
		g := r.connect(i > 0, Limits{})
		r.must(r.publish(g, 1, 1, "x"))
		r.s.Leave(r.delivered[i])
		if r.s.handling != 0 {
			t.Fatalf("%d messages are said to be with handlers", r.s.handling)
		}
	}
	g := r.connect(true, Limits{})
	r.must(r.again(g, 1, 1, "x"))
	r.s.Leave(r.delivered[20])
	if r.s.handling != 0 {
		t.Errorf("%d messages are said to be with handlers", r.s.handling)
	}
	g = r.connect(true, Limits{})
	r.must(r.publish(g, 1, 1, "x"))
	r.must(r.s.Complete(r.delivered[21], 0, ""))
	r.want("PUBACK 1")
}

// Only the given connection ends, not the next one.
func TestEndAfterAcks_EndsOnlyTheGivenConnection(t *testing.T) {
	r := newRig(t, Config{})
	why := errors.New("no room")
	g := r.connect(false, Limits{})
	first := r.w
	r.s.Detach(g)
	r.s.EndAfterAcks(first, why)
	r.want()
	r.connect(true, Limits{})
	r.s.EndAfterAcks(first, why)
	r.want()
	if first.failed != nil || r.w.failed != nil {
		t.Errorf("the first ended with %v, the second with %v", first.failed, r.w.failed)
	}
	r.must(r.publish(r.g, 1, 7, "x"))
	r.must(r.s.Complete(r.delivered[0], 0, ""))
	r.s.EndAfterAcks(r.w, why)
	r.want("PUBACK 7")
	if r.w.failed != why {
		t.Errorf("it ended with %v", r.w.failed)
	}
}
