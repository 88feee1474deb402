package dedupe

import (
	"context"
	"sync"
	"time"
)

// state is what Memory and File share: a table and its clock guarded by a mutex.
type state struct {
	opts  Options
	clock clock

	mu     sync.Mutex
	closed bool
	table  table
}

// Begin implements [Cache]. It does not block.
func (s *state) Begin(ctx context.Context, key, owner string) (Claim, Verdict, error) {
	if err := checkKey(key); err != nil {
		return Claim{}, 0, err
	}
	if ctx.Err() != nil {
		return Claim{}, 0, context.Cause(ctx)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return Claim{}, 0, ErrClosed
	}
	c, v, err := s.table.begin(key, owner, s.clock.now())
	dropped := s.table.takeDropped()
	s.mu.Unlock()
	s.opts.report(dropped)
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

// Abort implements [Cache]. It does not block and ignores ctx.
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
		if err := waitFor(ctx, ended, remaining); err != nil {
			return err
		}
	}
}

// waitFor blocks until ended is closed or the lease has run out, for which the
// caller looks at the claim again.
func waitFor(ctx context.Context, ended <-chan struct{}, remaining time.Duration) error {
	var expired <-chan time.Time
	if remaining != noDeadline {
		timer := time.NewTimer(remaining)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ended:
		return nil
	case <-expired:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stats implements [Cache].
func (s *state) Stats() Stats {
	s.mu.Lock()
	s.table.expire(s.clock.now())
	dropped := s.table.takeDropped()
	stats := s.table.snapshot()
	s.mu.Unlock()
	s.opts.report(dropped)
	return stats
}
