package outbox

import (
	"errors"
	"math/bits"
	"sync"
	"weak"

	"github.com/mooring-mqtt/mooring/persistence"
)

// openTable holds the open messages: the messages that Add has registered, and messages of an
// earlier process that this process has sent. A pending message takes about 20 bytes of the table,
// whether or not the application keeps its Delivery.
type openTable struct {
	earlier uint64 // the last sequence that an earlier process used

	mu     sync.Mutex
	pages  map[uint64]*page // by sequence / pageSize; holds last and all pages with an entry
	spare  []*page          // empty pages for reuse
	early  map[uint64]End   // messages that ended before Add registered them: other goroutines may commit, send and end a message that Add has enqueued
	closed error            // set by abandon; messages registered afterwards are abandoned

	last    *page    // the page that register used last
	results *results // results of last, kept alive between two messages
}

const pageSize = 64

// page holds the open messages among pageSize sequences. Each bit is a message.
type page struct {
	number     uint64 // sequence / pageSize
	open       uint64 // the message has an entry
	registered uint64 // Add has registered the message
	replaced   uint64 // a newer message with the same key was accepted
	ids        [pageSize][16]byte
	results    weak.Pointer[results] // alive while the application keeps a Delivery of the page
	sent       *[pageSize]sentMessage
}

type sentMessage struct {
	judge func(error) // function of the breaker; nil after the acknowledgement
	qos   byte        // QoS at which the message was sent
}

func newOpenTable(earlier uint64) openTable {
	return openTable{earlier: earlier, pages: map[uint64]*page{}, early: map[uint64]End{}}
}

// split returns the page number of a sequence, its index in the page, and its bit.
func split(seq uint64) (number uint64, i uint8, bit uint64) {
	return seq / pageSize, uint8(seq % pageSize), 1 << (seq % pageSize)
}

// find returns the page that holds the entry of a message, or nil.
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

// entry adds an entry for a message and returns its page.
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

// use makes p the last page.
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

// resultsOf returns the results of a page, or nil if the application keeps no Delivery of it.
func (t *openTable) resultsOf(p *page) *results {
	if p == t.last {
		return t.results
	}
	return p.results.Value()
}

// register adds a message of Add. replaced is the message that it has replaced, or 0. register
// returns the End of the message if it has already ended, or the error if the table is closed.
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

// forget removes a message that was not accepted.
func (t *openTable) forget(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, i, bit := t.find(seq); p != nil {
		t.remove(p, i, bit)
	}
}

// sent records that a message was sent. judge is the breaker's function for it.
func (t *openTable) sent(seq uint64, id [16]byte, qos byte, judge func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i, _ := t.entry(seq)
	if p.sent == nil {
		p.sent = new([pageSize]sentMessage)
	}
	p.ids[i], p.sent[i] = id, sentMessage{judge: judge, qos: qos}
}

// sentAt returns the QoS at which a message was sent, or 0 if it was not sent.
func (t *openTable) sentAt(seq uint64) byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, i, _ := t.find(seq); p != nil && p.sent != nil {
		return p.sent[i].qos
	}
	return 0
}

// refused records that a message was refused for now, or ended connections (alone), and returns the breaker's function for it.
func (t *openTable) refused(seq uint64, code byte, alone bool) (judge func(error)) {
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
		r.note(i, code, alone)
	}
	return judge
}

// closing is what the caller of end needs to report the end of a message.
type closing struct {
	judge      func(error) // function of the breaker; nil: the message is not a trial
	registered bool        // false: Add reports the end
	results    *results    // nil: nobody waits for the result
	slot       uint8
}

// end removes a message from the table and sets the ID of e.
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

// connectionEnded cancels the breaker's trials of all sent messages, because their acknowledgements
// can no longer arrive.
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

// abandon resolves all open messages as Abandoned. Messages that have already ended keep their End.
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

// isReplaced reports whether a newer message with the same key was accepted. The store drops a
// replaced message itself, unless the sent watermark covers it. The watermark may also cover
// messages that were not sent yet.
func (t *openTable) isReplaced(seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, _, bit := t.find(seq)
	return p != nil && p.replaced&bit != 0
}

// deferredLimit is the Limit of a *DeferredFullError.
const deferredLimit = "deferred messages"

// DeferredFullError is the error of Add for a message that would be deferred while the limit of
// deferred messages is reached.
type DeferredFullError struct {
	persistence.FullError
	Code   byte   // of the last refusal of the topic
	oldest uint64 // the message to drop to make room, already removed from the queue; 0: none
}

func (e *DeferredFullError) Unwrap() error { return &e.FullError }

// storeFull reports whether err is a limit to which FullPolicy applies.
func storeFull(err error) bool {
	if full := (*persistence.FullError)(nil); errors.As(err, &full) {
		return full.Limit == "MaxMessages" || full.Limit == "MaxBytes" || full.Limit == "MaxDiskBytes" || full.Limit == deferredLimit
	}
	return errors.Is(err, persistence.ErrFull) // a custom store may not name the limit
}

// mayPass reports whether the store may accept the message later.
func mayPass(err error) bool {
	return storeFull(err) || errors.Is(err, persistence.ErrDegraded) || stalled(err)
}

// stalled reports whether the disk did not answer in time.
func stalled(err error) bool { return errors.As(err, new(*persistence.StalledError)) }
