package outbox

import (
	"sync"
	"sync/atomic"
)

// openTable has the open messages: those that Add registered, and sent ones of an earlier process.
type openTable struct {
	earlier uint64 // the last sequence of an earlier process

	mu     sync.Mutex
	open   map[uint64]*openMessage // by sequence
	spare  []*openMessage          // ended entries, to be used again
	closed error                   // set by abandon: messages registered later are abandoned

	stale  atomic.Bool       // some message was replaced
	newest map[string]uint64 // by key: the newest message
	swept  int               // len(newest) after the last sweep
}

type openMessage struct {
	id       [16]byte
	waiter   *Waiter
	judge    func(error) // the breaker's, while the message is sent and not acknowledged
	qos      byte        // at which it was sent
	replaced bool        // a newer message with the same key was accepted
	// ended is set when a message ends before Add has registered it: another
	// goroutine may commit, send and end what Add has enqueued.
	ended *End
}

func newOpenTable(earlier uint64) openTable {
	return openTable{earlier: earlier, open: map[uint64]*openMessage{}, newest: map[string]uint64{}}
}

// entry returns the entry of a message, which it makes if there is none.
func (t *openTable) entry(seq uint64) *openMessage {
	m := t.open[seq]
	if m == nil {
		if last := len(t.spare) - 1; last >= 0 {
			m, t.spare = t.spare[last], t.spare[:last]
		} else {
			m = new(openMessage)
		}
		t.open[seq] = m
	}
	return m
}

// remove removes the entry m of a message; nil: there is none.
func (t *openTable) remove(seq uint64, m *openMessage) {
	if m == nil {
		return
	}
	delete(t.open, seq)
	if *m = (openMessage{}); len(t.spare) < 1024 {
		t.spare = append(t.spare, m)
	}
}

// register enters a message of Add. It returns its End if it has one, or why it is abandoned.
func (t *openTable) register(seq uint64, d *Draft, w *Waiter) (end *End, closed error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.entry(seq)
	m.id, m.waiter = d.ID, w
	if d.Key != "" {
		m.replaced = t.replace(d.Key, seq)
	}
	switch {
	case m.ended != nil:
		end = m.ended
		t.remove(seq, m)
	case t.closed != nil:
		closed = t.closed
		t.remove(seq, m)
	}
	return end, closed
}

// forget removes a message that was not accepted after all.
func (t *openTable) forget(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(seq, t.open[seq])
}

// sent notes that a message was sent. judge belongs to the breaker.
func (t *openTable) sent(seq uint64, id [16]byte, qos byte, judge func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.entry(seq)
	m.id, m.qos, m.judge = id, qos, judge
}

// sentAt returns the QoS at which a message was sent; 0: it was not.
func (t *openTable) sentAt(seq uint64) byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.open[seq]; m != nil {
		return m.qos
	}
	return 0
}

// refused notes that a message was refused for now, and returns the breaker's function for it.
func (t *openTable) refused(seq uint64, code byte) (judge func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.open[seq]
	if m == nil {
		return nil
	}
	judge, m.judge = m.judge, nil
	if m.waiter != nil {
		m.waiter.note(code)
	}
	return judge
}

// end takes a message out of the table and completes e with its ID. It returns
// false if Add has not registered the message yet: then Add reports e.
func (t *openTable) end(seq uint64, e *End) (m openMessage, registered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry := t.open[seq]
	if entry != nil {
		m = *entry
	}
	if m.id != [16]byte{} {
		e.ID = m.id
	}
	if seq > t.earlier && m.waiter == nil {
		ended := *e // so that e stays on the stack
		*t.entry(seq) = openMessage{ended: &ended}
		return m, false
	}
	t.remove(seq, entry)
	return m, true
}

// connectionEnded returns the breaker's trials of messages whose acknowledgements
// cannot arrive any more.
func (t *openTable) connectionEnded() {
	t.mu.Lock()
	var trials []func(error)
	for _, m := range t.open {
		if m.judge != nil {
			trials = append(trials, m.judge)
			m.judge = nil
		}
	}
	t.mu.Unlock()
	for _, judge := range trials {
		judge(errNotTried)
	}
}

// abandon resolves everything that is open. Messages with an End keep it.
func (t *openTable) abandon(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = err
	for seq, m := range t.open {
		if m.ended == nil {
			if m.waiter != nil {
				m.waiter.Resolve(Result{State: Abandoned, Err: err})
			}
			t.remove(seq, m)
		}
	}
}

// replace makes seq the newest message with this key, and the one before it
// replaced. The store drops a replaced message itself, unless the sent watermark
// covers it: that goes ahead of what was sent, so the send loop asks isReplaced. It
// reports whether seq itself is replaced: two messages may register in either order.
func (t *openTable) replace(key string, seq uint64) bool {
	before := t.newest[key]
	if before > seq {
		t.stale.Store(true)
		return true
	}
	t.newest[key] = seq
	if m := t.open[before]; m != nil {
		m.replaced = true
		t.stale.Store(true)
	}
	if len(t.newest) >= 2*max(t.swept, 512) {
		for key, s := range t.newest {
			if _, ok := t.open[s]; !ok && s != seq {
				delete(t.newest, key)
			}
		}
		t.swept = len(t.newest)
	}
	return false
}

// isReplaced reports whether a newer message with the same key was accepted.
func (t *openTable) isReplaced(seq uint64) bool {
	if !t.stale.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.open[seq]
	return m != nil && m.replaced
}
