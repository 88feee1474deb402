package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// program uses a log on a file system that records its operations. It records each guarantee that
// the log gives, and the operation of the file system at which it was given.
type program struct {
	fsys *memFS
	o    Options
	l    *Log
	rnd  *rand.Rand

	mu      sync.Mutex
	start   *model
	history []event
	actors  []*actor
	n       uint32 // messages have numbers above this one
	moved   uint64 // number of moved messages

	openings []int // the operations at which the log was opened
	meddle   func(*Log)

	releasing sync.Mutex
}

// event is a change of the model. The possible effects of a call are recorded before the call, and
// its guarantees after it. So an event holds at its cut and at all later ones.
type event struct {
	at     int
	change func(*model)
}

func newProgram(fsys *memFS, o Options, start *model, seed uint64, n uint32) *program {
	p := &program{fsys: fsys, o: o, start: start, rnd: rand.New(rand.NewPCG(seed, 1)), n: n}
	p.o.FS = fsys
	return p
}

func (p *program) note(change func(*model)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history = append(p.history, event{p.fsys.Len(), change})
}

// now returns the present model.
func (p *program) now() *model {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.start.clone()
	for _, e := range p.history {
		e.change(m)
	}
	return m
}

// open opens the log and compares its content with the guarantees.
func (p *program) open() error {
	p.note(func(m *model) { m.boot.high++; m.clean = false })
	p.openings = append(p.openings, p.fsys.Len())
	l, err := Open("log", p.o)
	if err != nil {
		return err
	}
	p.l = l
	m := p.now()
	s, err := show(l, m)
	if errors.Is(err, ErrFailed) || errors.Is(err, ErrDegraded) { // the disk failed while messages were moved
		return err
	}
	if err != nil {
		return violation{err}
	}
	m.boot.high--                                                  // without the present opening
	if len(p.openings) > 1 && m.epoch != 0 && s.epoch != m.epoch { // only the process had ended, not the system
		return violation{fmt.Errorf("epoch %d, it was %d", s.epoch, m.epoch)}
	}
	if err := m.check(s); err != nil {
		return violation{err}
	}
	p.note(func(m *model) { m.opened(s) })
	for _, a := range p.actors {
		a.live, a.byCommit, a.bySync = nil, nil, nil
	}
	a := p.actor(0)
	a.about, a.deadLetters, a.sent = map[uint64]*message{}, nil, s.sent
	for _, x := range slices.Concat(s.messages, s.deferred) { // copies, because s must not change
		a.live, a.about[x.seq] = append(a.live, x.seq), &x
	}
	slices.Sort(a.live)
	for _, x := range s.dead {
		a.deadLetters = append(a.deadLetters, x.seq)
	}
	return nil
}

// violation is a broken guarantee. Other errors are caused by a failing disk.
type violation struct{ error }

// actor returns the actor with this number. Each actor is used by one goroutine.
func (p *program) actor(i int) *actor {
	for len(p.actors) <= i {
		p.actors = append(p.actors, &actor{program: p, publisher: uint8(len(p.actors)), n: p.n})
	}
	return p.actors[i]
}

// close closes the log, which makes all records durable.
func (p *program) close() error {
	clock := p.l.Now().UnixMilli()
	if err := p.l.Close(); err != nil {
		return err
	}
	p.moved += p.l.Stats().Moved
	for _, a := range p.actors {
		a.confirm()
	}
	p.note(func(m *model) {
		m.clock, m.clean = clock, true
		for seq := range m.loose {
			m.keep(seq)
		}
	})
	return nil
}

// kill leaves the log like a killed process: its goroutines end, and their further operations have
// no effect.
func (p *program) kill() {
	p.fsys.dead.Store(true)
	_ = p.l.Close()
	p.moved += p.l.Stats().Moved
	p.fsys.Kill()
	p.fsys.dead.Store(false)
}

// settle waits until no message is being moved.
func (p *program) settle() {
	l := p.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waste.compaction.running && l.failed == nil {
		l.awaitRoom(context.Background())
	}
}
