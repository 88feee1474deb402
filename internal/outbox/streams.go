package outbox

import (
	"context"
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
	turn chan struct{} // has one token, held by the message that gets the next number
	id   uint32        // in the store
	last uint64        // the last number used
}

// lock returns the stream with this name, locked for the message that gets its next number. A new
// stream continues after the last number in the store. It returns the cause if ctx ends, or an
// error of the store.
func (s *streams) lock(ctx context.Context, store Store, name string) (*stream, error) {
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
		found = &stream{turn: make(chan struct{}, 1), id: id, last: last}
		found.turn <- struct{}{}
		s.byName[name] = found
	}
	s.mu.Unlock()
	select {
	case <-found.turn:
		return found, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// streamsFull reports whether the store has no room for another stream.
func streamsFull(err error) bool {
	full := (*persistence.FullError)(nil)
	return errors.As(err, &full) && full.Limit == "MaxStreams"
}

// unlock releases the stream. used reports whether the number was stored.
func (s *stream) unlock(used bool) {
	if used {
		s.last++
	}
	s.turn <- struct{}{}
}
