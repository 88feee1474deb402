package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	loose    map[uint64]bool
	ending   map[uint64]OutcomeKind // Done was called: may be gone
	gone     map[uint64]bool        // Done is durable, or it was never there: is gone
	released map[uint64]can
	seen     map[uint16]can
	session  can
	streams  map[string]span // last number
	ids      map[string]uint32
	totals   [DeadLettered + 1]span
	lastSeq  span
	boot     span
	epoch    uint64 // 0: unknown
}

// key says which message it is: they are all different, and each is what its key
// says.
type key struct {
	publisher uint8
	n         uint32
}

// can is whether something can be so, and can be not so.
type can struct{ yes, no bool }

// span is a number between two.
type span struct{ low, high uint64 }

func newModel() *model {
	return &model{
		tried: map[key]bool{}, given: map[uint64]key{}, kept: map[uint64]bool{}, loose: map[uint64]bool{},
		ending: map[uint64]OutcomeKind{}, gone: map[uint64]bool{}, released: map[uint64]can{}, seen: map[uint16]can{},
		session: can{no: true}, streams: map[string]span{}, ids: map[string]uint32{},
	}
}

func (m *model) clone() *model {
	c := *m
	c.tried, c.given, c.kept, c.loose = maps.Clone(m.tried), maps.Clone(m.given), maps.Clone(m.kept), maps.Clone(m.loose)
	c.ending, c.gone, c.released, c.seen = maps.Clone(m.ending), maps.Clone(m.gone), maps.Clone(m.released), maps.Clone(m.seen)
	c.streams, c.ids = maps.Clone(m.streams), maps.Clone(m.ids)
	return &c
}

// may notes that something was set to a value, which is not durable yet.
func (c can) may(value bool) can { return can{c.yes || value, c.no || !value} }

func exactly(value bool) can { return can{value, !value} }

// allows: a value that is not in a map is not so.
func (c can) allows(value bool) bool { return value && c.yes || !value && (c.no || c == can{}) }

// message is the message with that key. Its packet says the key and the size.
func (k key) message(size int) *Message {
	p := make([]byte, max(size, 9))
	p[0] = k.publisher
	binary.BigEndian.PutUint32(p[1:], k.n)
	binary.BigEndian.PutUint32(p[5:], uint32(len(p)))
	for i := 9; i < len(p); i++ {
		p[i] = byte(i) ^ byte(k.n) ^ k.publisher<<4
	}
	m := &Message{Packet: p, Accepted: time.UnixMilli(1_700_000_000_000 + int64(k.n))}
	copy(m.ID[:], p)
	if k.n%3 == 0 {
		m.Expires = m.Accepted.Add(time.Duration(1+k.n) * time.Second)
	}
	return m
}

// keyOf returns the key of an entry, which must be as it was stored.
func keyOf(e *Entry) (key, error) {
	p := e.Packet
	if len(p) < 9 {
		return key{}, fmt.Errorf("message %d has a packet of %d bytes", e.Seq, len(p))
	}
	k := key{p[0], binary.BigEndian.Uint32(p[1:])}
	m := k.message(int(binary.BigEndian.Uint32(p[5:])))
	if !bytes.Equal(p, m.Packet) || e.ID != m.ID || !e.Accepted.Equal(m.Accepted) || !e.Expires.Equal(m.Expires) {
		return k, fmt.Errorf("message %d (%v) was changed", e.Seq, k)
	}
	return k, nil
}

// shown is what a log shows when it was opened.
type shown struct {
	seqs     []uint64
	keys     []key
	released map[uint64]bool
	seen     []uint16
	session  bool
	streams  []string // by ID
	last     []uint64
	lastSeq  uint64
	boot     uint64
	epoch    uint64
	stats    Stats
}

// show reads everything that a log says.
func show(l *Log) (*shown, error) {
	s := &shown{
		released: map[uint64]bool{}, seen: l.SeenIDs(), session: l.HasSession(), lastSeq: l.LastSeq(),
		boot: l.Boot(), epoch: l.Epoch(),
	}
	err := drain(l, func(e *Entry) error {
		k, err := keyOf(e)
		s.seqs, s.keys = append(s.seqs, e.Seq), append(s.keys, k)
		if e.Released {
			s.released[e.Seq] = true
		}
		return err
	})
	l.Streams(func(name string, _ uint32, last uint64) bool {
		s.streams, s.last = append(s.streams, name), append(s.last, last)
		return true
	})
	s.stats = l.Stats()
	return s, err
}

// drain hands over all that is not done, in the order of Next.
func drain(l *Log, each func(*Entry) error) error {
	var e Entry
	var c Cursor
	for {
		ok, err := l.Next(&c, &e)
		if !ok || err != nil {
			return err
		}
		c.Pass(&e)
		if err := each(&e); err != nil {
			return err
		}
	}
}

// check says in what the log breaks its promises.
func (m *model) check(s *shown) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	there := map[uint64]bool{}
	last, order := uint64(0), map[uint8]uint32{}
	for i, seq := range s.seqs {
		k := s.keys[i]
		there[seq] = true
		if seq <= last || seq > s.lastSeq {
			wrong("message %d comes after %d, the last one is %d", seq, last, s.lastSeq)
		}
		if last = seq; k.n <= order[k.publisher] {
			wrong("message %d is number %d of its publisher, after %d", seq, k.n, order[k.publisher])
		}
		order[k.publisher] = k.n
		if given, ok := m.given[seq]; ok && given != k {
			wrong("message %d is %v, but it was %v", seq, k, given)
		}
		if !m.tried[k] {
			wrong("message %d (%v) was never stored, or not there any more", seq, k)
		}
		if m.gone[seq] {
			wrong("message %d is back", seq)
		}
		if !m.released[seq].allows(s.released[seq]) {
			wrong("message %d: released: %t", seq, s.released[seq])
		}
	}
	for seq := range m.kept {
		if m.ending[seq] == 0 && !there[seq] {
			wrong("message %d is lost", seq)
		}
	}
	for seq := range m.loose {
		if m.ending[seq] == 0 && !there[seq] && seq <= s.lastSeq {
			wrong("message %d is lost before %d", seq, s.lastSeq)
		}
	}
	for id, c := range m.seen {
		if here := slices.Contains(s.seen, id); !c.allows(here) {
			wrong("identifier %d: seen: %t", id, here)
		}
	}
	for _, id := range s.seen {
		if !m.seen[id].allows(true) {
			wrong("identifier %d was never seen", id)
		}
	}
	if !m.session.allows(s.session) {
		wrong("session: %t", s.session)
	}
	m.checkStreams(s, wrong)
	m.checkCounters(s, wrong)
	return errors.Join(errs...)
}

func (m *model) checkStreams(s *shown, wrong func(string, ...any)) {
	for name, r := range m.streams {
		i := slices.Index(s.streams, name)
		if id := m.ids[name]; id != 0 && int(id) != i+1 {
			wrong("stream %s has the ID %d, it was %d", name, i+1, id)
		}
		if r.low > 0 && i < 0 {
			wrong("stream %s is forgotten", name)
		}
	}
	for i, name := range s.streams {
		if r, ok := m.streams[name]; !ok || !r.has(s.last[i]) {
			wrong("stream %s is at %d, not in %v", name, s.last[i], r)
		}
	}
}

func (m *model) checkCounters(s *shown, wrong func(string, ...any)) {
	n := s.stats
	if n.Accepted != n.Acked+n.Refused+n.Expired+n.Dropped+n.DeadLettered+n.Pending || n.Pending != uint64(len(s.seqs)) || n.Accepted != s.lastSeq {
		wrong("the sum does not hold: %+v, %d messages, last %d", n, len(s.seqs), s.lastSeq)
	}
	for i, total := range []uint64{n.Acked, n.Refused, n.Expired, n.Dropped, n.DeadLettered} {
		if k := Acked + OutcomeKind(i); !m.totals[k].has(total) {
			wrong("%d %s, not in %v", total, k, m.totals[k])
		}
	}
	if n.Corruptions > 0 || n.Lost > 0 {
		wrong("a crash was taken for damage: %+v", n)
	}
	if !m.lastSeq.has(s.lastSeq) {
		wrong("the last sequence is %d, not in %v", s.lastSeq, m.lastSeq)
	}
	if boot := m.boot; s.boot <= boot.low || s.boot > boot.high+1 {
		wrong("boot %d, after %v", s.boot, boot)
	}
	if m.epoch != 0 && s.epoch != m.epoch {
		wrong("epoch %d, it was %d", s.epoch, m.epoch)
	}
}

func (r span) has(n uint64) bool { return n >= r.low && n <= r.high }

// opened notes what an opening showed: what the program may act on from then on
// is a promise.
func (m *model) opened(s *shown) {
	*m = *newModel()
	for i, seq := range s.seqs {
		m.tried[s.keys[i]], m.given[seq], m.kept[seq] = true, s.keys[i], true
		m.released[seq] = exactly(s.released[seq])
	}
	for seq := uint64(1); seq <= s.lastSeq; seq++ {
		if !m.kept[seq] {
			m.gone[seq] = true
		}
	}
	for _, id := range s.seen {
		m.seen[id] = exactly(true)
	}
	m.session = exactly(s.session)
	for i, name := range s.streams {
		m.streams[name], m.ids[name] = span{s.last[i], s.last[i]}, uint32(i+1)
	}
	for i, total := range []uint64{s.stats.Acked, s.stats.Refused, s.stats.Expired, s.stats.Dropped, s.stats.DeadLettered} {
		m.totals[Acked+OutcomeKind(i)] = span{total, total}
	}
	m.lastSeq, m.boot, m.epoch = span{s.lastSeq, s.lastSeq}, span{s.boot, s.boot}, s.epoch
}
