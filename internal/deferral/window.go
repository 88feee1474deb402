package deferral

import "sync/atomic"

// Window bounds the messages in flight after the server has refused messages because of a quota. It
// halves with each such refusal, at most once for what was in flight together, and grows again with
// the acknowledgements.
type Window struct {
	limit  atomic.Int64 // 0: none
	credit atomic.Int64 // acknowledgements since it has grown
	landed atomic.Int64 // until so many answers have come, refusals are of messages sent before
}

// Answered notes an answer; acked: the message was accepted. most is where the limit ends.
func (w *Window) Answered(acked bool, most int) {
	limit := w.limit.Load()
	if limit == 0 {
		return
	}
	if w.landed.Load() > 0 {
		w.landed.Add(-1)
	}
	if !acked || w.credit.Add(1) < limit {
		return
	}
	w.credit.Store(0)
	if limit += max(1, limit/4); limit >= int64(most) {
		limit = 0
	}
	w.limit.Store(limit)
}

// Refused notes that a quota was exceeded with so many messages in flight.
func (w *Window) Refused(inFlight int) {
	if w.landed.Load() > 0 {
		return
	}
	w.limit.Store(max(1, int64(inFlight+1)/2))
	w.credit.Store(0)
	w.landed.Store(int64(inFlight))
}

// Open removes the limit.
func (w *Window) Open() {
	w.limit.Store(0)
	w.landed.Store(0)
}

// Limit returns how many messages may be in flight; 0: there is no limit.
func (w *Window) Limit() int { return int(w.limit.Load()) }
