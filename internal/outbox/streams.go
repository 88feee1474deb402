package outbox

import (
	"errors"
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
	mu   sync.Mutex
	id   uint32 // in the store
	last uint64 // the last number that was used
}

// lock returns the stream with this name, for the message that gets its next number.
// A stream continues from the last number in the store.
func (s *streams) lock(store Store, name string) (*stream, error) {
	s.mu.Lock()
	found := s.byName[name]
	if found == nil {
		id, last, err := store.Stream(name)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		if s.byName == nil {
			s.byName = map[string]*stream{}
		}
		found = &stream{id: id, last: last}
		s.byName[name] = found
	}
	s.mu.Unlock()
	found.mu.Lock()
	return found, nil
}

// streamsFull reports whether the store has no room for another stream.
func streamsFull(err error) bool {
	full := (*persistence.FullError)(nil)
	return errors.As(err, &full) && full.Limit == "MaxStreams"
}

// unlock ends what lock began; used: the number was stored.
func (s *stream) unlock(used bool) {
	if used {
		s.last++
	}
	s.mu.Unlock()
}
