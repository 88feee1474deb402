package persistence

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// model is what the log has guaranteed at a moment, and what else it may contain. After a crash,
// the log must agree with it.
type model struct {
	tried map[key]bool    // messages that may exist
	given map[uint64]key  // messages that were assigned a sequence, by sequence
	kept  map[uint64]bool // confirmed sequences: they exist, unless in ending
	// loose are sequences that were confirmed under a policy with which a power failure may remove
	// the newest. If one is missing, all later ones may be missing too, but no earlier one.
	loose     map[uint64]bool
	ending    map[uint64]Result // ended, but perhaps not durably: they may be gone
	gone      map[uint64]bool   // durably ended, or never existed: they must be gone
	released  map[uint64]can
	deferrals map[uint64][]Deferral // possible deferrals of a message; the zero value means not deferred
	seen      map[uint16][]uint64   // possible fingerprints; 0 means not seen
	fpKey     [16]byte              // zero: unknown
	releases  [][]uint64            // released messages of each possible session, in the order of the calls
	session   can
	owners    map[string]bool     // possible owners of the session
	failed    map[string][]uint64 // messages that were ended before the session of this owner began
	streams   map[string]span     // last number
	ids       map[string]uint32
	totals    [DeadLettered + 1]span
	lastSeq   span
	boot      span
	epoch     uint64            // 0: unknown
	used      map[string]uint64 // highest number of each stream that may have been sent in this epoch
	clean     bool              // the log was closed, so the epoch continues

	numbers  map[uint64]uint64 // the Number of each message that the log has returned
	highest  [Priorities]span  // the last assigned Number; not for Normal
	sent     [Priorities]span  // the sent watermarks
	dead     map[uint64]can    // whether the message is a kept dead letter
	madeRoom map[uint64]uint64 // dropped messages, and the message that each was dropped for
	clock    int64             // the latest time of the store; a lower bound while messages are pending

	o        Options
	known    map[key]bool    // all messages that ever existed, if receipts are enabled
	receipts map[key]Receipt // durable results; At is zero if unknown
}

// key identifies a message. The content of each message is determined by its key and its looks.
type key struct {
	publisher uint8
	n         uint32
}

// looks are the properties of a message apart from its size: its priority and its Key. There are a
// few keys; 0 means no key.
type looks struct {
	priority Priority
	conflate byte
}

// can describes whether a statement may be true, and whether it may be false.
type can struct{ yes, no bool }

// span is a range of possible numbers.
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

// may returns c after a change to value that is not durable yet.
func (c can) may(value bool) can { return can{c.yes || value, c.no || !value} }

func exactly(value bool) can { return can{value, !value} }

// or returns c, or exactly value if nothing is known.
func (c can) or(value bool) can {
	if c == (can{}) {
		return exactly(value)
	}
	return c
}

// allows reports whether value is possible. The zero value of can, which maps return for missing
// keys, allows only false.
func (c can) allows(value bool) bool { return value && c.yes || !value && (c.no || c == can{}) }

func (r span) has(n uint64) bool { return n >= r.low && n <= r.high }

// keep records that a message is durable.
func (m *model) keep(seq uint64) {
	m.kept[seq] = true
	m.lastSeq.low = max(m.lastSeq.low, seq)
}

// end records that a message may have ended with this result. ended records that it has.
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

// release records that a message may be released, after all other messages of the session.
func (m *model) release(seq uint64) {
	last := &m.releases[len(m.releases)-1]
	if !slices.Contains(*last, seq) {
		*last = append(*last, seq)
	}
}

// defers records that a message may have this deferral. deferred records that it has.
func (m *model) defers(seq uint64, d Deferral) {
	if m.deferrals[seq] == nil {
		m.deferrals[seq] = []Deferral{{}}
	}
	m.deferrals[seq] = slices.Concat(m.deferrals[seq], []Deferral{d})
}

func (m *model) deferred(seq uint64, d Deferral) { m.deferrals[seq] = []Deferral{d} }

// reset records that the session was lost.
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

// message returns the message with this key. Its packet contains the key, the size and the looks.
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
	switch k.n % 8 { // the others have no policy, as most messages
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

// id returns the message ID. The order of the IDs differs from the order of the messages.
func (k key) id() (id [16]byte) {
	binary.BigEndian.PutUint32(id[:], k.n*0x9e3779b1)
	id[4] = k.publisher
	return id
}

func (k key) String() string { return fmt.Sprintf("%d of publisher %d", k.n, k.publisher) }

// keyOf returns the key and the looks of an entry. It returns an error if the entry is not as it
// was stored.
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
