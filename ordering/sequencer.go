package ordering

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sync"
)

// Sequencer assigns the numbers 1, 2, 3 and so on to the messages of each key. Calls
// of Next for one key run one after the other; calls for different keys run
// concurrently. So messages that are published inside Next are published in the
// order of their numbers, without a queue for each topic.
//
// A Sequencer does not remove keys by itself: a key that started again would repeat
// numbers, and receivers would drop its messages as duplicates.
type Sequencer struct {
	max  int
	mu   sync.Mutex // guards keys
	keys map[string]*counter
}

type counter struct {
	mu   sync.Mutex // held while a number is being used
	last uint64     // guarded by mu
	uses int        // calls of Next that use or wait for it; guarded by Sequencer.mu
}

// SequencerOptions configures a Sequencer. The zero value is usable.
type SequencerOptions struct {
	// MaxKeys limits the number of keys. Beyond it, Next returns [*TooManyKeysError]
	// for a new key. Default 65,536.
	MaxKeys int
}

const defaultMaxKeys = 65_536

// TooManyKeysError reports that a new key would exceed SequencerOptions.MaxKeys.
type TooManyKeysError struct{ Limit int }

func (e *TooManyKeysError) Error() string {
	return fmt.Sprintf("ordering: %d keys have sequence numbers, the limit; use fewer topics, raise SequencerOptions.MaxKeys, or publish unnumbered", e.Limit)
}

// ErrExhausted is returned after the number 2^64-1 of a key.
var ErrExhausted = errors.New("ordering: the sequence numbers of this key are exhausted; start a new epoch")

// NewSequencer returns a Sequencer without keys.
func NewSequencer(o SequencerOptions) *Sequencer {
	return &Sequencer{max: cmp.Or(max(o.MaxKeys, 0), defaultMaxKeys), keys: make(map[string]*counter)}
}

// Next calls use with the next number of key and returns its error. The number is
// used only if use returns nil. After an error or a panic, the next call gets the
// same number. So use should only return an error if the message certainly was not
// sent, for example because it was not appended to a durable log.
//
// For one key, one use runs at a time, and further calls wait. use must not call
// Next with its own key. Errors besides those of use: [*TooManyKeysError],
// [ErrExhausted].
func (s *Sequencer) Next(key string, use func(seq uint64) error) error {
	c, err := s.acquire(key, s.max)
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

func (s *Sequencer) acquire(key string, limit int) (*counter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.keys[key]
	if c == nil {
		if len(s.keys) >= limit {
			return nil, &TooManyKeysError{Limit: limit}
		}
		c = &counter{}
		s.keys[key] = c
	}
	c.uses++
	return c, nil
}

// release removes a key that has used no number.
func (s *Sequencer) release(key string, c *counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.uses--; c.uses == 0 && c.last == 0 && s.keys[key] == c {
		delete(s.keys, key)
	}
}

// Restore sets the last number of key after a restart. It never lowers the last
// number. It ignores MaxKeys. It waits for a call of Next for key that is in
// progress.
func (s *Sequencer) Restore(key string, last uint64) {
	c, _ := s.acquire(key, math.MaxInt)
	defer s.release(key, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last, last)
}

// Forget removes key. Its next number is 1 again, so call Forget only for a key that
// is not used again, or together with a new epoch. The number of a call of Next that
// is in progress is forgotten too.
func (s *Sequencer) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}
