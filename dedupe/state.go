package dedupe

import (
	"context"
	"sync"
	"time"
)

// state is the common part of Memory and File: a table and its clock, guarded by a mutex.
type state struct {
	opts  Options
	clock clock

	mu     sync.Mutex
	closed bool
	table  table
}

// unlock releases the lock and then calls OnEvict for the dropped keys.
func (s *state) unlock() {
	dropped := s.table.dropped
	s.table.dropped = nil
	s.mu.Unlock()
	for _, d := range dropped {
		s.opts.OnEvict(d.key, d.why)
	}
}

// Begin implements [Cache]. It does not block.
func (s *state) Begin(ctx context.Context, key, owner string) (Claim, Verdict, error) {
	var c Claim
	switch {
	case key == "":
		return c, 0, ErrEmptyKey
	case len(key) > MaxKeyBytes:
		return c, 0, ErrKeyTooLong
	case ctx.Err() != nil:
		return c, 0, context.Cause(ctx)
	}
	s.mu.Lock()
	now := s.clock.now()
	if s.table.expire(now); len(s.table.dropped) > 0 {
		s.unlock() // call OnEvict before the claim begins: if it panicked later, no caller would hold the claim
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if s.closed {
		return c, 0, ErrClosed
	}
	v, err := s.table.begin(&c, key, owner, now)
	return c, v, err
}

// Renew implements [Cache]. It does not block.
func (s *state) Renew(ctx context.Context, c Claim) (Claim, error) {
	if ctx.Err() != nil {
		return c, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return c, ErrClosed
	}
	return s.table.renew(c, s.clock.now())
}

// Abort implements [Cache]. It ignores ctx, because it does not block.
func (s *state) Abort(_ context.Context, c Claim) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return s.table.abort(c)
}

// Wait implements [Cache].
func (s *state) Wait(ctx context.Context, c Claim) error {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		ended, remaining := s.table.watch(c, s.clock.now())
		s.mu.Unlock()
		if ended == nil {
			return nil
		}
		var expired <-chan time.Time
		if remaining != noDeadline {
			expired = time.After(remaining)
		}
		select {
		case <-ended:
		case <-expired: // check again: the lease may have been renewed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Stats implements [Cache].
func (s *state) Stats() Stats {
	s.mu.Lock()
	defer s.unlock()
	s.table.expire(s.clock.now())
	return s.table.snapshot()
}
