package outbox

import (
	"sync"

	"github.com/mooring-mqtt/mooring/persistence"
)

// streams numbers the messages of each stream.
type streams struct {
	mu     sync.Mutex
	byName map[string]*stream
}

// stream is one sequence of numbers.
type stream struct {
	mu   sync.Mutex // held from taking a number until it is stored
	id   uint32     // in the store
	last uint64
}

// get returns the stream with this name, with the last number in the store.
func (s *streams) get(store Store, name string) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.byName[name]; found != nil {
		return found, nil
	}
	id, last, err := store.Stream(name)
	if err != nil {
		return nil, err
	}
	if s.byName == nil {
		s.byName = map[string]*stream{}
	}
	found := &stream{id: id, last: last}
	s.byName[name] = found
	return found, nil
}

// enqueue numbers d and stores it in one step, so that the order of the numbers is
// the order of the log and only a stored message uses a number up.
func (s *stream) enqueue(store Store, d *Draft) (persistence.Ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Message.Stream, d.StreamSeq = s.id, s.last+1
	ticket, err := d.enqueue(store)
	if err == nil {
		s.last++
	}
	return ticket, err
}
