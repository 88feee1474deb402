package ordering

import (
	"errors"
	"fmt"
	"math"
	"sync"
)

// Sequencer numbers messages: for each key 1, 2, 3 and so on. Calls of Next for
// one key run one after the other, those for different keys beside each other;
// so whoever publishes inside Next publishes one message of a topic at a time
// and in the order of the numbers. A caller of Next waits for its turn, so no
// queue is needed for each topic.
//
// It never forgets a key by itself, because a key that started over would use
// numbers again that receivers have seen: they would take new messages for
// repetitions and drop them.
type Sequencer struct {
	max int

	mu   sync.Mutex
	keys map[string]*counter
}

type counter struct {
	mu   sync.Mutex // held while the number is being used
	last uint64     // under mu of counter
	uses int        // calls of Next that hold or wait for it; under mu of Sequencer
}

// SequencerOptions bounds a Sequencer. The zero value is usable.
type SequencerOptions struct {
	// MaxKeys is the number of keys; when full, Next fails for new ones with
	// [*TooManyKeysError]. Default 65,536.
	MaxKeys int
}

const defaultMaxKeys = 65_536

// TooManyKeysError says that a new key would exceed SequencerOptions.MaxKeys.
type TooManyKeysError struct {
	Limit int
}

// Error says what is full and what to do.
func (e *TooManyKeysError) Error() string {
	return fmt.Sprintf("ordering: %d keys have sequence numbers, the limit; use fewer topics, raise SequencerOptions.MaxKeys, or publish unnumbered", e.Limit)
}

// ErrExhausted says that a key has used 2^64-1.
var ErrExhausted = errors.New("ordering: no sequence number is left for this key; go on in a new epoch")

// NewSequencer returns a Sequencer without keys.
func NewSequencer(o SequencerOptions) *Sequencer {
	if o.MaxKeys <= 0 {
		o.MaxKeys = defaultMaxKeys
	}
	return &Sequencer{max: o.MaxKeys, keys: make(map[string]*counter)}
}

// Next calls use with the number after the last one of key and returns what use
// returns. The number counts as used only when that is nil; otherwise, and when
// use panics, the next call gets the same one. So use should accept the message
// for good (append it to a durable log) rather than wait for its
// acknowledgement, or tell only then that it succeeded if a failure means for
// sure that nothing was sent.
//
// For one key only one use runs at a time, others wait for it; use must not
// call Next with its own key. Errors besides those of use: [*TooManyKeysError],
// [ErrExhausted].
func (s *Sequencer) Next(key string, use func(seq uint64) error) error {
	c, err := s.acquire(key)
	if err != nil {
		return err
	}
	defer s.release(key, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == math.MaxUint64 {
		return ErrExhausted
	}
	if err := use(c.last + 1); err != nil {
		return err
	}
	c.last++
	return nil
}

func (s *Sequencer) acquire(key string) (*counter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.keys[key]
	if c == nil {
		if len(s.keys) >= s.max {
			return nil, &TooManyKeysError{Limit: s.max}
		}
		c = &counter{}
		s.keys[key] = c
	}
	c.uses++
	return c, nil
}

// release forgets a key that never got to use a number: it takes up no room.
func (s *Sequencer) release(key string, c *counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.uses--; c.uses == 0 && c.last == 0 && s.keys[key] == c {
		delete(s.keys, key)
	}
}

// Restore says that last was the last number used for key, before a restart. It
// never takes a number back: the higher of last and what is known counts. It
// works beyond MaxKeys too, for what was used was used. It waits for a use of
// key that is under way.
func (s *Sequencer) Restore(key string, last uint64) {
	if last == 0 {
		return
	}
	s.mu.Lock()
	c := s.keys[key]
	if c == nil {
		c = &counter{}
		s.keys[key] = c
	}
	c.uses++
	s.mu.Unlock()
	defer s.release(key, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, last)
}

// Forget makes room by dropping key. Its next number would be 1 again, so do
// this only for keys that are never used again, or together with a new epoch.
// A use of key that is under way goes on and is forgotten too.
func (s *Sequencer) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

// Len returns the number of keys.
func (s *Sequencer) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}
