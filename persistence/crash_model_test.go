package persistence

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// model is what the log has promised to the program at a moment, and what it may
// show besides. A crash may leave what agrees with it, and nothing else.
type model struct {
	tried map[key]bool    // messages that may be there
	given map[uint64]key  // sequence of each that got one
	kept  map[uint64]bool // sequences that were confirmed: are there, unless ending
	// loose are sequences that were confirmed under a policy that lets a power cut
	// take the newest: all before the first that is missing are there.
	loose     map[uint64]bool
	ending    map[uint64]Result // it was ended: may be gone
	gone      map[uint64]bool   // that is durable, or it was never there: is gone
	released  map[uint64]can
	deferrals map[uint64][]Deferral // that a message may have; the zero value: none
	seen      map[uint16][]uint64   // the fingerprints that there may be; 0: not seen
	fpKey     [16]byte              // zeros: unknown
	releases  [][]uint64            // of each session that there may be, in the order of the calls
	session   can
	owners    map[string]bool     // whose session it may be
	failed    map[string][]uint64 // what was given up before the session began that has this owner
	streams   map[string]span     // last number
	ids       map[string]uint32
	totals    [DeadLettered + 1]span
	lastSeq   span
	boot      span
	epoch     uint64            // 0: unknown
	used      map[string]uint64 // of each stream, the highest number that may have been sent since
	clean     bool              // the log was closed: the epoch goes on

	numbers  map[uint64]uint64 // the Number that was shown of a message
	highest  [Priorities]span  // the last Number given out; not of Normal
	sent     [Priorities]span  // the sent watermarks
	dead     map[uint64]can    // whether it is a dead letter that is kept
	madeRoom map[uint64]uint64 // dropped messages, and the one that each was dropped for
	clock    int64             // what the store's clock has shown; holds while messages are pending

	o        Options
	known    map[key]bool    // all there ever were, where receipts are wanted
	receipts map[key]Receipt // outcomes that are durable; At is zero where it is not known
}

// key says which message it is: they are all different, and each is what its key
// and its look say.
type key struct {
	publisher uint8
	n         uint32
}

// looks is what a message has beside its size: its priority, and its Key, of which
// there are a few; 0: none.
type looks struct {
	priority Priority
	conflate byte
}

// can is whether something can be so, and can be not so.
type can struct{ yes, no bool }

// span is a number between two.
type span struct{ low, high uint64 }

func newModel(o Options) *model {
	return &model{
		tried: map[key]bool{}, given: map[uint64]key{}, kept: map[uint64]bool{}, loose: map[uint64]bool{},
		ending: map[uint64]Result{}, gone: map[uint64]bool{}, deferrals: map[uint64][]Deferral{}, released: map[uint64]can{}, seen: map[uint16][]uint64{},
		session: can{no: true}, owners: map[string]bool{"": true}, failed: map[string][]uint64{}, releases: [][]uint64{nil}, streams: map[string]span{}, ids: map[string]uint32{},
		used: map[string]uint64{}, numbers: map[uint64]uint64{}, dead: map[uint64]can{}, madeRoom: map[uint64]uint64{},
		o: o.withDefaults(), known: map[key]bool{}, receipts: map[key]Receipt{},
	}
}

func (m *model) clone() *model {
	c := *m
	c.tried, c.given, c.kept, c.loose = maps.Clone(m.tried), maps.Clone(m.given), maps.Clone(m.kept), maps.Clone(m.loose)
	c.ending, c.gone, c.released, c.seen = maps.Clone(m.ending), maps.Clone(m.gone), maps.Clone(m.released), maps.Clone(m.seen)
	c.deferrals = maps.Clone(m.deferrals)
	c.streams, c.ids, c.used = maps.Clone(m.streams), maps.Clone(m.ids), maps.Clone(m.used)
	c.numbers, c.dead, c.madeRoom = maps.Clone(m.numbers), maps.Clone(m.dead), maps.Clone(m.madeRoom)
	c.owners, c.releases, c.failed = maps.Clone(m.owners), slices.Clone(m.releases), maps.Clone(m.failed)
	for i, list := range c.releases {
		c.releases[i] = slices.Clone(list)
	}
	c.known, c.receipts = maps.Clone(m.known), maps.Clone(m.receipts)
	return &c
}

// may notes that something was set to a value, which is not durable yet.
func (c can) may(value bool) can { return can{c.yes || value, c.no || !value} }

func exactly(value bool) can { return can{value, !value} }

// or is c, or exactly that value if nothing is known.
func (c can) or(value bool) can {
	if c == (can{}) {
		return exactly(value)
	}
	return c
}

// allows: a value that is not in a map is not so.
func (c can) allows(value bool) bool { return value && c.yes || !value && (c.no || c == can{}) }

func (r span) has(n uint64) bool { return n >= r.low && n <= r.high }

// keep notes that a message is durable.
func (m *model) keep(seq uint64) {
	m.kept[seq] = true
	m.lastSeq.low = max(m.lastSeq.low, seq)
}

// end notes that a message may have ended so, and ended that it has.
func (m *model) end(seq uint64, o Result) {
	m.ending[seq] = o
	m.totals[o.Kind].high++
	if o.Kind == DeadLettered && m.o.Retention.MaxDeadLetters > 0 {
		m.dead[seq] = can{yes: true, no: true}
	}
}

func (m *model) ended(seq uint64, o Result) {
	m.gone[seq] = true
	m.totals[o.Kind].low++
	if m.o.Retention.MaxReceipts > 0 {
		m.receipts[m.given[seq]] = Receipt{Seq: seq, Result: o}
	}
	if c, kept := m.dead[seq]; kept && c.yes {
		m.dead[seq] = exactly(true)
	}
}

// release notes that a message may be released, after all that were in this
// session.
func (m *model) release(seq uint64) {
	last := &m.releases[len(m.releases)-1]
	if !slices.Contains(*last, seq) {
		*last = append(*last, seq)
	}
}

// defers notes that a message may be deferred so, and deferred that it is.
func (m *model) defers(seq uint64, d Deferral) {
	if m.deferrals[seq] == nil {
		m.deferrals[seq] = []Deferral{{}}
	}
	m.deferrals[seq] = slices.Concat(m.deferrals[seq], []Deferral{d})
}

func (m *model) deferred(seq uint64, d Deferral) { m.deferrals[seq] = []Deferral{d} }

// reset notes that the session was lost.
func (m *model) reset(set func(c can, value bool) can) {
	m.session = set(m.session, true)
	for seq, c := range m.released {
		m.released[seq] = set(c, false)
	}
	for id, prints := range m.seen {
		if !set(exactly(true), false).yes {
			prints = nil
		}
		m.seen[id] = slices.Concat(prints, []uint64{0})
	}
	for seq, list := range m.deferrals {
		var with []Deferral
		for _, d := range list {
			if set(exactly(true), false).yes {
				with = append(with, d)
			}
			d.PacketID = 0
			with = append(with, d)
		}
		m.deferrals[seq] = with
	}
	for p := range m.sent {
		m.sent[p].low = 0
		if !set(exactly(true), false).yes {
			m.sent[p].high = 0
		}
	}
}

// message is the message with that key. Its packet says the key, the size and the
// look.
func (k key) message(size int, as looks) *Message {
	p := make([]byte, max(size, minPacket))
	p[0] = k.publisher
	binary.BigEndian.PutUint32(p[1:], k.n)
	binary.BigEndian.PutUint32(p[5:], uint32(len(p)))
	p[9] = byte(as.priority) | as.conflate<<4
	for i := minPacket; i < len(p); i++ {
		p[i] = byte(i) ^ byte(k.n) ^ k.publisher<<4
	}
	m := &Message{ID: k.id(), Packet: p, Accepted: time.UnixMilli(1_700_000_000_000 + int64(k.n)), Priority: as.priority}
	if as.conflate != 0 {
		m.Key = string('a' + rune(as.conflate))
	}
	switch k.n % 8 { // the rest says nothing, as most do
	case 3:
		m.OnSessionLost = Republish
	case 2, 7:
		m.OnSessionLost = FailInFlight
	}
	if k.n%3 == 0 {
		m.Expires = m.Accepted.Add(time.Duration(1+k.n) * time.Second)
	}
	return m
}

const minPacket = 10

// id is the message ID: not in the order of the messages.
func (k key) id() (id [16]byte) {
	binary.BigEndian.PutUint32(id[:], k.n*0x9e3779b1)
	id[4] = k.publisher
	return id
}

func (k key) String() string { return fmt.Sprintf("%d of publisher %d", k.n, k.publisher) }

// keyOf returns the key and the look of an entry, which must be as it was stored.
func keyOf(e *Entry) (key, looks, error) {
	p := e.Packet
	if len(p) < minPacket {
		return key{}, looks{}, fmt.Errorf("message %d has a packet of %d bytes", e.Seq, len(p))
	}
	k, as := key{p[0], binary.BigEndian.Uint32(p[1:])}, looks{Priority(p[9] & 15), p[9] >> 4}
	m := k.message(int(binary.BigEndian.Uint32(p[5:])), as)
	if !bytes.Equal(p, m.Packet) || e.ID != m.ID || e.Priority != m.Priority || e.OnSessionLost != m.OnSessionLost || !e.Accepted.Equal(m.Accepted) || !e.Expires.Equal(m.Expires) {
		return k, as, fmt.Errorf("message %d (%v) was changed", e.Seq, k)
	}
	return k, as, nil
}
