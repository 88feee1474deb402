package deferral

import "sync/atomic"

// Window bounds the messages in flight after the server has refused messages because of a quota. It
// halves with each such refusal, but only once for messages that were in flight together. It grows
// again with acknowledgements.
type Window struct {
	limit   atomic.Int64 // 0: no limit
	credit  atomic.Int64 // acknowledgements since it last grew
	ignored atomic.Int64 // number of answers until which refusals belong to messages sent before
}

// Answered records an answer. acked means that the server accepted the message. The limit is
// removed when it reaches most.
func (w *Window) Answered(acked bool, most int) {
	limit := w.limit.Load()
	if limit == 0 {
		return
	}
	if w.ignored.Load() > 0 {
		w.ignored.Add(-1)
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

// Refused records that a quota was exceeded with this number of messages in flight.
func (w *Window) Refused(inFlight int) {
	if w.ignored.Load() > 0 {
		return
	}
	w.limit.Store(max(1, int64(inFlight+1)/2))
	w.credit.Store(0)
	w.ignored.Store(int64(inFlight))
}

// Open removes the limit.
func (w *Window) Open() {
	w.limit.Store(0)
	w.ignored.Store(0)
}

// Limit returns the maximum number of messages in flight, or 0 for no limit.
func (w *Window) Limit() int { return int(w.limit.Load()) }
