package inbox

// WorkerOf returns a number for the worker of an ordering key.
func (b *Inbox[M]) WorkerOf(orderKey string) int {
	for i, w := range b.workers {
		if w == b.worker(orderKey) {
			return i
		}
	}
	return -1
}

// Stats is a snapshot of Counters.
type Stats struct {
	Received, Handled, Failed, Refused, Unhandled, Duplicates, Late, Gaps, DroppedQoS0, Stalls uint64
	OutOfOrder, Reused, Repeated                                                               uint64
	Bytes                                                                                      int64
}

// Stats returns the current counters.
func (b *Inbox[M]) Stats() Stats {
	n := &b.Counters
	return Stats{
		Received: n.Received.Load(), Handled: n.Handled.Load(), Failed: n.Failed.Load(), Refused: n.Refused.Load(),
		Unhandled: n.Unhandled.Load(), Duplicates: n.Duplicates.Load(), Late: n.Late.Load(), Gaps: n.Gaps.Load(),
		DroppedQoS0: n.DroppedQoS0.Load(), Bytes: n.Bytes.Load(), Stalls: n.Stalls.Load(),
		OutOfOrder: n.OutOfOrder.Load(), Reused: n.Reused.Load(), Repeated: n.Repeated.Load(),
	}
}

// Kept returns the number of messages without a handler in memory. The workers must be idle.
func (b *Inbox[M]) Kept() (n int) {
	for _, w := range b.workers {
		n += len(w.waits.list)
	}
	return n
}
