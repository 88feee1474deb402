package mqtttest

import "time"

// queue holds the messages that a session has not begun to send, in order. session.enqueue enforces
// its limits.
type queue struct {
	ring    []entry
	head, n int
	bytes   int
	qos0    int // of n
	// soonest is not later than the first expiry of a message in the queue. It is zero if none
	// expires.
	soonest time.Time
}

func (q *queue) at(i int) *entry { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *queue) push(e entry) {
	if q.n == len(q.ring) {
		grown := make([]entry, max(8, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = *q.at(i)
		}
		q.ring, q.head = grown, 0
	}
	*q.at(q.n) = e
	q.n++
	q.bytes += e.msg.size()
	if e.qos == 0 {
		q.qos0++
	}
	if at := e.msg.expires; !at.IsZero() && (q.soonest.IsZero() || at.Before(q.soonest)) {
		q.soonest = at
	}
}

func (q *queue) pop() entry {
	e := *q.at(0)
	*q.at(0) = entry{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	q.bytes -= e.msg.size()
	if e.qos == 0 {
		q.qos0--
	}
	if q.n == 0 && len(q.ring) > 1024 {
		q.ring, q.head = nil, 0 // do not keep the memory of a burst
	}
	return e
}

// sift keeps the entries for which keep returns true, in order.
func (q *queue) sift(keep func(*entry) bool) {
	old := *q
	*q = queue{}
	for i := range old.n {
		if e := old.at(i); keep(e) {
			q.push(*e)
		}
	}
}
