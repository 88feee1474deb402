package main

import (
	"sync"

	"github.com/mooring-mqtt/mooring/persistence"
)

// sabotage switches off a protection of the store, to show that the run then fails. Otherwise it
// returns the store unchanged.
func sabotage(s *persistence.Log, without string) persistence.Store {
	switch without {
	case "ids":
		return &freshIDs{Store: s, shift: s.Boot() * 7919}
	case "released":
		return &forgetful{Store: s}
	}
	return s
}

// freshIDs changes the numbers of the messages in each process. The client derives packet identifiers
// from these numbers, so the identifiers change too.
type freshIDs struct {
	persistence.Store
	shift uint64
}

func (f *freshIDs) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	ok, err := f.Store.Next(c, e)
	e.Number += f.shift
	return ok, err
}

func (f *freshIDs) Get(seq uint64, e *persistence.Entry) (bool, error) {
	ok, err := f.Store.Get(seq, e)
	e.Number += f.shift
	return ok, err
}

func (f *freshIDs) First(p persistence.Priority) uint64 { return f.shifted(f.Store.First(p)) }

func (f *freshIDs) Sent(p persistence.Priority) uint64 { return f.shifted(f.Store.Sent(p)) }

func (f *freshIDs) Released() []persistence.Position {
	places := f.Store.Released()
	for i := range places {
		places[i].Number += f.shift
	}
	return places
}

func (f *freshIDs) SetSent(p persistence.Priority, number uint64) error {
	return f.Store.SetSent(p, max(number, f.shift)-f.shift)
}

func (f *freshIDs) shifted(number uint64) uint64 {
	if number == 0 {
		return 0
	}
	return number + f.shift
}

// forgetful does not store that a PUBREC was received. So a restarted process publishes messages again
// that the broker already has.
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
	e.Released = f.isReleased(e.Seq)
	return ok, err
}

func (f *forgetful) Get(seq uint64, e *persistence.Entry) (bool, error) {
	ok, err := f.Store.Get(seq, e)
	e.Released = f.isReleased(e.Seq)
	return ok, err
}

func (f *forgetful) isReleased(seq uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.released[seq]
}
