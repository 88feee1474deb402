package main

import (
	"sync"

	"github.com/mooring-mqtt/mooring/persistence"
)

// sabotage takes a protective part out of a store, to show that the run then
// fails. Without a part to take out, the store is returned as it is.
func sabotage(s persistence.Store, without string) persistence.Store {
	switch without {
	case "ids":
		return &freshIDs{Store: s, shift: s.Boot() * 7919}
	case "released":
		return &forgetful{Store: s}
	}
	return s
}

// freshIDs gives messages other log sequences in every process, and so, since
// packet identifiers follow from them, other packet identifiers.
type freshIDs struct {
	persistence.Store
	shift uint64
}

func (f *freshIDs) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	own := *c
	for p := range own {
		own[p] -= min(own[p], f.shift)
	}
	ok, err := f.Store.Next(&own, e)
	if ok {
		e.Seq += f.shift
	}
	return ok, err
}

func (f *freshIDs) Enqueue(m *persistence.Message) (persistence.Ticket, error) {
	t, err := f.Store.Enqueue(m)
	t.Seq += f.shift
	return t, err
}

func (f *freshIDs) Wait(t persistence.Ticket) error {
	t.Seq -= f.shift
	return f.Store.Wait(t)
}

func (f *freshIDs) First(p persistence.Priority) uint64 {
	if n := f.Store.First(p); n > 0 {
		return n + f.shift
	}
	return 0
}

func (f *freshIDs) Release(seq uint64) error { return f.Store.Release(seq - f.shift) }

func (f *freshIDs) Done(seq uint64, o persistence.Outcome) error {
	return f.Store.Done(seq-f.shift, o)
}

func (f *freshIDs) LastSeq() uint64 { return f.Store.LastSeq() + f.shift }

// forgetful keeps to itself that PUBREC came, so that a restarted process
// publishes again what the broker already has.
type forgetful struct {
	persistence.Store
	mu       sync.Mutex
	released map[uint64]bool
}

func (f *forgetful) Release(seq uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released == nil {
		f.released = map[uint64]bool{}
	}
	f.released[seq] = true
	return nil
}

func (f *forgetful) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	ok, err := f.Store.Next(c, e)
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Released = f.released[e.Seq]
	return ok, err
}
