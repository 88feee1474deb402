package persistence

import (
	"sync"
	"time"
)

// Memory is the store without a disk: the same behaviour, and nothing left when
// the process ends. What is recorded counts as durable at once. For tests, and
// for programs that can afford to lose what they accepted.
type Memory struct {
	o Options

	mu     sync.Mutex
	err    error // what every method returns: invalid options, or closed
	ledger ledger
	chunks []*chunk // of chunkMessages messages each, the last one being filled
	spare  *chunk   // emptied, for the next one
}

// chunkMessages is how many messages are freed together.
const chunkMessages = 256

// maxSpareBytes bounds what an unused chunk may hold on to.
const maxSpareBytes = 1 << 20

// chunk holds consecutive messages; their packets lie one after the other in data.
type chunk struct {
	first  uint64
	undone int
	items  []item
	data   []byte
}

type item struct {
	id                [16]byte
	accepted, expires int64
	off, size         int
	state             uint8
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store. With options outside their range every
// method of it returns the *OptionError.
func NewMemory(o Options) *Memory {
	m := &Memory{o: o.withDefaults(), err: o.Validate()}
	m.ledger.next = 1
	m.ledger.boot = 1
	m.ledger.epoch = uint64(time.Now().UnixMilli())
	return m
}

// Reopen closes m and returns a store with the same state, as opening the
// folder of a log again would: the same epoch, the next boot. m is empty then.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &Memory{o: m.o, err: m.o.Validate(), ledger: m.ledger, chunks: m.chunks}
	n.ledger.boot++
	m.err, m.chunks, m.spare = ErrClosed, nil, nil
	m.ledger = ledger{epoch: m.ledger.epoch, boot: m.ledger.boot, next: 1}
	return n
}

// Enqueue implements [Store].
func (m *Memory) Enqueue(msg *Message) (Ticket, error) {
	accepted, expires := msg.times()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return Ticket{}, m.err
	}
	if err := m.ledger.admit(&m.o, msg); err != nil {
		return Ticket{}, err
	}
	seq := m.ledger.accept(msg)
	c := m.filling(seq)
	c.items = append(c.items, item{id: msg.ID, accepted: accepted, expires: expires, off: len(c.data), size: len(msg.Packet)})
	c.data = append(c.data, msg.Packet...)
	c.undone++
	return Ticket{Seq: seq}, nil
}

// filling returns the chunk that takes the message seq.
func (m *Memory) filling(seq uint64) *chunk {
	if n := len(m.chunks); n > 0 && len(m.chunks[n-1].items) < chunkMessages {
		return m.chunks[n-1]
	}
	c := m.spare
	m.spare = nil
	if c == nil {
		c = &chunk{items: make([]item, 0, chunkMessages)}
	}
	c.first, c.items, c.data = seq, c.items[:0], c.data[:0]
	m.chunks = append(m.chunks, c)
	return c
}

// Wait implements [Store].
func (m *Memory) Wait(t Ticket) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.Seq >= m.ledger.next {
		return ErrUnknownSequence
	}
	return nil
}

// Append implements [Store].
func (m *Memory) Append(msg *Message) (uint64, error) {
	t, err := m.Enqueue(msg)
	return t.Seq, err
}

// Next implements [Store].
func (m *Memory) Next(after uint64, e *Entry) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false, m.err
	}
	if len(m.chunks) == 0 || after >= m.ledger.next {
		return false, nil
	}
	from := max(after+1, m.chunks[0].first)
	for i := (from - m.chunks[0].first) / chunkMessages; i < uint64(len(m.chunks)); i++ {
		c := m.chunks[i]
		if c.undone == 0 {
			continue
		}
		start := uint64(0)
		if from > c.first {
			start = from - c.first
		}
		for j := start; j < uint64(len(c.items)); j++ {
			if it := &c.items[j]; it.state != stateDone {
				e.Seq, e.ID, e.Released = c.first+j, it.id, it.state == stateReleased
				e.Accepted, e.Expires = fromMillis(it.accepted), fromMillis(it.expires)
				e.Packet = append(e.Packet[:0], c.data[it.off:it.off+it.size]...)
				return true, nil
			}
		}
	}
	return false, nil
}

// find returns the message and its chunk, or nil when the chunk is gone.
func (m *Memory) find(seq uint64) (*chunk, *item) {
	if len(m.chunks) == 0 || seq < m.chunks[0].first {
		return nil, nil
	}
	n := seq - m.chunks[0].first
	c := m.chunks[n/chunkMessages]
	return c, &c.items[n%chunkMessages]
}

// Release implements [Store].
func (m *Memory) Release(seq uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if err := m.ledger.checkSeq(seq); err != nil {
		return err
	}
	if _, it := m.find(seq); it != nil && it.state == statePending {
		it.state = stateReleased
	}
	return nil
}

// Done implements [Store].
func (m *Memory) Done(seq uint64, o Outcome) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if err := m.ledger.checkDone(seq, o); err != nil {
		return err
	}
	c, it := m.find(seq)
	if it == nil || it.state == stateDone {
		return nil
	}
	it.state = stateDone
	c.undone--
	m.ledger.settle(o.Kind, it.size)
	if c.undone == 0 && len(c.items) == chunkMessages {
		m.free(c)
	}
	return nil
}

// free gives up the packets of a chunk at once, and the chunks at the front.
func (m *Memory) free(c *chunk) {
	if c != m.chunks[0] {
		c.data = nil
		return
	}
	for len(m.chunks) > 0 && m.chunks[0].undone == 0 && len(m.chunks[0].items) == chunkMessages {
		if cap(m.chunks[0].data) <= maxSpareBytes {
			m.spare = m.chunks[0]
		}
		m.chunks[0] = nil
		m.chunks = m.chunks[1:]
	}
}

// Seen implements [Store].
func (m *Memory) Seen(id uint16) error {
	return m.identifier(id, m.ledger.seen.add)
}

// Cleared implements [Store].
func (m *Memory) Cleared(id uint16) error {
	return m.identifier(id, m.ledger.seen.remove)
}

func (m *Memory) identifier(id uint16, change func(uint16) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if id == 0 {
		return ErrPacketID
	}
	change(id)
	return nil
}

// SeenIDs implements [Store].
func (m *Memory) SeenIDs() []uint16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.seen.list()
}

// ResetSession implements [Store].
func (m *Memory) ResetSession() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.ledger.seen.clear()
	m.ledger.session = true
	for _, c := range m.chunks {
		for j := range c.items {
			if c.items[j].state == stateReleased {
				c.items[j].state = statePending
			}
		}
	}
	return nil
}

// HasSession implements [Store].
func (m *Memory) HasSession() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.session
}

// Sync implements [Store].
func (m *Memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Stream implements [Store].
func (m *Memory) Stream(name string) (id uint32, last uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, 0, m.err
	}
	id, last, _, err = m.ledger.stream(&m.o, name)
	return id, last, err
}

// Streams implements [Store].
func (m *Memory) Streams(yield func(name string, id uint32, last uint64) bool) {
	yieldStreams(&m.mu, &m.ledger, yield)
}

// yieldStreams copies the list, so that yield may call the store.
func yieldStreams(mu *sync.Mutex, g *ledger, yield func(name string, id uint32, last uint64) bool) {
	mu.Lock()
	streams := append([]stream(nil), g.streams...)
	mu.Unlock()
	for i, s := range streams {
		if !yield(s.name, uint32(i+1), s.last) {
			return
		}
	}
}

// LastSeq implements [Store].
func (m *Memory) LastSeq() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.next - 1
}

// Epoch implements [Store].
func (m *Memory) Epoch() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.epoch
}

// Boot implements [Store].
func (m *Memory) Boot() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.boot
}

// Stats implements [Store]. The counters of files stay at zero.
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.stats()
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil && m.err != ErrClosed {
		return nil
	}
	m.err = ErrClosed
	return nil
}
