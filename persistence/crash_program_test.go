package persistence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// program uses a log on a file system that records, and writes down what it was
// promised, and when: at which operation of the file system.
type program struct {
	fsys *memFS
	o    Options
	l    *Log
	rnd  *rand.Rand

	mu      sync.Mutex
	start   *model
	history []event
	actors  []*actor
	n       uint32 // numbers of messages are above it
}

// event is a change of the model. What a call may cause is noted before it, what
// it promised after it; so an event holds at its cut and at all later ones.
type event struct {
	at     int
	change func(*model)
}

func newProgram(fsys *memFS, o Options, start *model, seed uint64, n uint32) *program {
	o.FS = fsys
	return &program{fsys: fsys, o: o, start: start, rnd: rand.New(rand.NewPCG(seed, 1)), n: n}
}

func (p *program) note(change func(*model)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history = append(p.history, event{p.fsys.Len(), change})
}

// now is the model at present.
func (p *program) now() *model {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.start.clone()
	for _, e := range p.history {
		e.change(m)
	}
	return m
}

// open opens the log and compares what it shows with the promises.
func (p *program) open() error {
	p.note(func(m *model) { m.boot.high++ })
	l, err := Open("log", p.o)
	if err != nil {
		return err
	}
	p.l = l
	s, err := show(l)
	if err != nil {
		return violation{err}
	}
	m := p.now()
	m.boot.high-- // it is this opening
	if err := m.check(s); err != nil {
		return violation{err}
	}
	p.note(func(m *model) { m.opened(s) })
	for _, a := range p.actors {
		a.live, a.byCommit, a.bySync = nil, nil, nil
	}
	a := p.actor(0)
	a.live = slices.Clone(s.seqs)
	return nil
}

// violation is a promise that was not kept while the program ran; other errors
// are what a failing disk causes.
type violation struct{ error }

// actor returns the publisher of that number. Each is for one goroutine.
func (p *program) actor(i int) *actor {
	for len(p.actors) <= i {
		p.actors = append(p.actors, &actor{program: p, publisher: uint8(len(p.actors)), n: p.n})
	}
	return p.actors[i]
}

// close closes the log, which makes durable whatever was recorded.
func (p *program) close() error {
	if err := p.l.Close(); err != nil {
		return err
	}
	for _, a := range p.actors {
		a.confirm()
	}
	p.note(func(m *model) {
		for seq := range m.loose {
			m.keep(seq)
		}
	})
	return nil
}

// kill leaves the log as a killed process does: its goroutines come to an end,
// and nothing of what they still do happens.
func (p *program) kill() {
	p.fsys.dead.Store(true)
	_ = p.l.Close()
	p.fsys.Kill()
	p.fsys.dead.Store(false)
}

// actor does what a client does, one call after the other.
type actor struct {
	*program
	publisher uint8
	n         uint32
	live      []uint64 // its messages that are not done

	byCommit, bySync []func(*model) // what the next commit, the next Sync makes durable
}

func (a *actor) strict() bool { return a.o.Sync == SyncEveryCommit }

// confirm notes that everything recorded is durable.
func (a *actor) confirm() {
	changes := append(a.byCommit, a.bySync...)
	a.byCommit, a.bySync = nil, nil
	a.note(func(m *model) {
		for _, change := range changes {
			change(m)
		}
	})
}

func (m *model) keep(seq uint64) {
	m.kept[seq] = true
	m.lastSeq.low = max(m.lastSeq.low, seq)
}

// append stores a message, as the next one of a stream unless its name is empty.
func (a *actor) append(size int, stream string) error {
	wait, err := a.enqueue(size, stream)
	if err == nil {
		err = wait()
	}
	return err
}

func (a *actor) enqueue(size int, stream string) (wait func() error, err error) {
	a.n++
	k := key{a.publisher, a.n}
	msg := k.message(size)
	if stream != "" {
		a.note(func(m *model) { m.streams[stream] = m.streams[stream] })
		id, last, err := a.l.Stream(stream)
		if err != nil {
			return nil, err
		}
		msg.Stream, msg.StreamSeq = id, last+1
	}
	a.note(func(m *model) {
		m.tried[k] = true
		m.lastSeq.high++
		if stream != "" {
			r := m.streams[stream]
			m.streams[stream] = span{r.low, msg.StreamSeq}
		}
	})
	t, err := a.l.Enqueue(msg)
	if err != nil {
		return nil, err
	}
	a.note(func(m *model) { m.given[t.Seq] = k })
	done := a.byCommit
	return func() error {
		if err := a.l.Wait(t); err != nil {
			return err
		}
		a.live = append(a.live, t.Seq)
		strict := a.strict()
		a.note(func(m *model) {
			if !strict {
				m.loose[t.Seq] = true
				return
			}
			m.keep(t.Seq)
			if stream != "" {
				r := m.streams[stream]
				m.streams[stream] = span{max(r.low, msg.StreamSeq), r.high}
				m.ids[stream] = msg.Stream
			}
			for _, change := range done {
				change(m)
			}
		})
		if strict {
			a.byCommit = a.byCommit[len(done):]
		}
		return nil
	}, nil
}

// done ends the i-th message that is not done.
func (a *actor) done(i int, kind OutcomeKind) error {
	seq := a.live[i]
	a.live = slices.Delete(slices.Clone(a.live), i, i+1)
	a.note(func(m *model) {
		m.ending[seq] = kind
		m.totals[kind].high++
	})
	a.byCommit = append(a.byCommit, func(m *model) {
		m.gone[seq] = true
		m.totals[kind].low++
	})
	return a.l.Done(seq, Outcome{Kind: kind, Reason: byte(seq)})
}

func (a *actor) release(i int) error {
	seq := a.live[i]
	a.note(func(m *model) { m.released[seq] = m.released[seq].or(false).may(true) })
	a.bySync = append(a.bySync, func(m *model) { m.released[seq] = exactly(true) })
	return a.l.Release(seq)
}

// or is c, or exactly that value if nothing is known.
func (c can) or(value bool) can {
	if c == (can{}) {
		return exactly(value)
	}
	return c
}

// see notes an identifier as seen, or cleared.
func (a *actor) see(id uint16, value bool) error {
	a.note(func(m *model) { m.seen[id] = m.seen[id].or(false).may(value) })
	a.bySync = append(a.bySync, func(m *model) { m.seen[id] = exactly(value) })
	if value {
		return a.l.Seen(id)
	}
	return a.l.Cleared(id)
}

// reset loses the session. It is durable on return.
func (a *actor) reset() error {
	a.note(func(m *model) { m.reset(can.may) })
	a.bySync = append(a.bySync, func(m *model) { m.reset(func(_ can, value bool) can { return exactly(value) }) })
	if err := a.l.ResetSession(); err != nil {
		return err
	}
	if a.strict() {
		a.confirm()
	}
	return nil
}

func (m *model) reset(set func(c can, value bool) can) {
	m.session = set(m.session, true)
	for seq, c := range m.released {
		m.released[seq] = set(c, false)
	}
	for id, c := range m.seen {
		m.seen[id] = set(c, false)
	}
}

func (a *actor) sync() error {
	if err := a.l.Sync(); err != nil {
		return err
	}
	if a.strict() {
		a.confirm()
	}
	return nil
}

func (k key) String() string { return fmt.Sprintf("%d of publisher %d", k.n, k.publisher) }
