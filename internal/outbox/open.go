package outbox

import (
	"math/bits"
	"sync"
	"weak"
)

// openTable has the open messages: those that Add registered, and sent ones of an earlier process. A
// pending message takes about 20 bytes of it, whether the application keeps its Delivery or not.
type openTable struct {
	earlier uint64 // the last sequence of an earlier process

	mu     sync.Mutex
	pages  map[uint64]*page // by sequence / pageSize; those with an entry, and last
	spare  []*page          // to be used again
	early  map[uint64]End   // messages that have ended before Add has registered them: others commit, send and end what Add has enqueued
	closed error            // set by abandon: messages registered later are abandoned

	last    *page    // the page that register used last
	results *results // of that page, so that they live on between two messages
}

const pageSize = 64

// page has the open messages among pageSize sequences. A bit is a message.
type page struct {
	number     uint64 // sequence / pageSize
	open       uint64 // there is an entry
	registered uint64 // by Add
	replaced   uint64 // a newer message with the same key was accepted
	ids        [pageSize][16]byte
	results    weak.Pointer[results] // as long as the application keeps a Delivery of the page
	sent       *[pageSize]sentMessage
}

type sentMessage struct {
	judge func(error) // the breaker's, until the message is acknowledged
	qos   byte        // at which it was sent
}

func newOpenTable(earlier uint64) openTable {
	return openTable{earlier: earlier, pages: map[uint64]*page{}, early: map[uint64]End{}}
}

// split returns the page number of a sequence, its position there, and the bit.
func split(seq uint64) (number uint64, i uint8, bit uint64) {
	return seq / pageSize, uint8(seq % pageSize), 1 << (seq % pageSize)
}

// find returns the page that has an entry of a message, or nil.
func (t *openTable) find(seq uint64) (p *page, i uint8, bit uint64) {
	number, i, bit := split(seq)
	if p = t.last; p == nil || p.number != number {
		p = t.pages[number]
	}
	if p != nil && p.open&bit == 0 {
		p = nil
	}
	return p, i, bit
}

// entry returns the page of a message and makes its entry.
func (t *openTable) entry(seq uint64) (p *page, i uint8, bit uint64) {
	number, i, bit := split(seq)
	if p = t.last; p == nil || p.number != number {
		p = t.pages[number]
	}
	if p == nil {
		if last := len(t.spare) - 1; last >= 0 {
			p, t.spare = t.spare[last], t.spare[:last]
		} else {
			p = new(page)
		}
		p.number = number
		t.pages[number] = p
	}
	p.open |= bit
	return p, i, bit
}

// remove removes the entry of a message.
func (t *openTable) remove(p *page, i uint8, bit uint64) {
	p.open &^= bit
	p.registered &^= bit
	p.replaced &^= bit
	p.ids[i] = [16]byte{}
	if p.sent != nil {
		p.sent[i] = sentMessage{}
	}
	if p.open == 0 && p != t.last {
		t.drop(p)
	}
}

// drop removes an empty page.
func (t *openTable) drop(p *page) {
	delete(t.pages, p.number)
	if len(t.spare) < 16 {
		p.results = weak.Pointer[results]{}
		t.spare = append(t.spare, p)
	}
}

// use makes p the page that register used last.
func (t *openTable) use(p *page) {
	if p == t.last {
		return
	}
	if before := t.last; before != nil && before.open == 0 {
		t.drop(before)
	}
	if t.last, t.results = p, p.results.Value(); t.results == nil {
		t.results = newResults(pageSize)
		p.results = weak.Make(t.results)
	}
}

// resultsOf returns the results of a page; nil: the application has no Delivery of it.
func (t *openTable) resultsOf(p *page) *results {
	if p == t.last {
		return t.results
	}
	return p.results.Value()
}

// register enters a message of Add, which has replaced another one; 0: none. It returns its End if it has
// one, or why it is abandoned.
func (t *openTable) register(seq, replaced uint64, d *Draft, w *Waiter) (end *End, closed error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, _, bit := t.find(replaced); p != nil {
		p.replaced |= bit
	}
	p, i, bit := t.entry(seq)
	t.use(p)
	w.slot = i
	w.results.Store(t.results)
	if _, ended := t.early[seq]; ended {
		t.remove(p, i, bit)
		e := t.early[seq]
		delete(t.early, seq)
		return &e, nil
	}
	if t.closed != nil {
		t.remove(p, i, bit)
		return nil, t.closed
	}
	p.registered |= bit
	p.ids[i] = d.ID
	return nil, nil
}

// forget removes a message that was not accepted after all.
func (t *openTable) forget(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, i, bit := t.find(seq); p != nil {
		t.remove(p, i, bit)
	}
}

// sent notes that a message was sent. judge belongs to the breaker.
func (t *openTable) sent(seq uint64, id [16]byte, qos byte, judge func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i, _ := t.entry(seq)
	if p.sent == nil {
		p.sent = new([pageSize]sentMessage)
	}
	p.ids[i], p.sent[i] = id, sentMessage{judge: judge, qos: qos}
}

// sentAt returns the QoS at which a message was sent; 0: it was not.
func (t *openTable) sentAt(seq uint64) byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, i, _ := t.find(seq); p != nil && p.sent != nil {
		return p.sent[i].qos
	}
	return 0
}

// refused notes that a message was refused for now, and returns the breaker's function for it.
func (t *openTable) refused(seq uint64, code byte) (judge func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i, bit := t.find(seq)
	if p == nil {
		return nil
	}
	if p.sent != nil {
		judge, p.sent[i].judge = p.sent[i].judge, nil
	}
	if r := t.resultsOf(p); r != nil && p.registered&bit != 0 {
		r.note(i, code)
	}
	return judge
}

// closing is what the end of a message concerns.
type closing struct {
	judge      func(error) // nil: there is no trial of the breaker
	registered bool        // otherwise Add reports the end
	results    *results    // nil: nobody waits
	slot       uint8
}

// end takes a message out of the table and completes e with its ID.
func (t *openTable) end(seq uint64, e *End) (c closing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i, bit := t.find(seq)
	waits := false
	if p != nil {
		waits = p.registered&bit != 0
		if p.sent != nil {
			c.judge = p.sent[i].judge
		}
		if p.ids[i] != [16]byte{} {
			e.ID = p.ids[i]
		}
		if waits {
			c.results, c.slot = t.resultsOf(p), i
		}
		t.remove(p, i, bit)
	}
	if c.registered = waits || seq <= t.earlier; !c.registered {
		t.early[seq] = *e
	}
	return c
}

// connectionEnded returns the breaker's trials of messages whose acknowledgements
// cannot arrive any more.
func (t *openTable) connectionEnded() {
	t.mu.Lock()
	var trials []func(error)
	for _, p := range t.pages {
		if p.sent == nil {
			continue
		}
		for i := range p.sent {
			if m := &p.sent[i]; m.judge != nil {
				trials = append(trials, m.judge)
				m.judge = nil
			}
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
	for _, p := range t.pages {
		if r := t.resultsOf(p); r != nil {
			for left := p.registered; left != 0; left &= left - 1 {
				r.resolve(uint8(bits.TrailingZeros64(left)), Result{State: Abandoned, Err: err})
			}
		}
	}
	clear(t.pages)
	t.last, t.results = nil, nil
}

// isReplaced reports whether a newer message with the same key was accepted. The store drops a replaced
// message itself, unless the sent watermark covers it: that goes ahead of what was sent.
func (t *openTable) isReplaced(seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, _, bit := t.find(seq)
	return p != nil && p.replaced&bit != 0
}
