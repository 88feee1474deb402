package outbox_test

import (
	"context"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/persistence"
)

// hooked is a store that calls the test.
type hooked struct {
	*persistence.Memory
	enqueued  func(persistence.Ticket)                 // before Enqueue returns
	marking   func()                                   // before SetSent
	reading   func(*persistence.Cursor) error          // before Next
	reset     func() error                             // before ResetSession
	end       func()                                   // after Next, at the end of the log
	deferring func(uint64, persistence.Deferral) error // before Defer
	ending    func(seq uint64)                         // before Done
	getting   func(seq uint64) error                   // before Get
	syncs     int
	mu        sync.Mutex // guards deferring, ending and getting; held while deferring and getting run
}

func (s *hooked) Enqueue(ctx context.Context, m *persistence.Message) (persistence.Ticket, error) {
	t, err := s.Memory.Enqueue(ctx, m)
	if err == nil && s.enqueued != nil {
		s.enqueued(t)
	}
	return t, err
}

func (s *hooked) SetSent(p persistence.Priority, number uint64) error {
	if s.marking != nil {
		s.marking()
	}
	return s.Memory.SetSent(p, number)
}

func (s *hooked) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	if s.reading != nil {
		if err := s.reading(c); err != nil {
			return false, err
		}
	}
	ok, err := s.Memory.Next(c, e)
	if !ok && s.end != nil {
		s.end()
	}
	return ok, err
}

func (s *hooked) ResetSession(owner string) error {
	if s.reset != nil {
		if err := s.reset(); err != nil {
			return err
		}
	}
	return s.Memory.ResetSession(owner)
}

// set changes deferring, ending or getting while the send loop may use them.
func (s *hooked) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *hooked) Defer(seq uint64, d persistence.Deferral) (err error) {
	s.set(func() {
		if s.deferring != nil {
			err = s.deferring(seq, d)
		}
	})
	if err != nil {
		return err
	}
	return s.Memory.Defer(seq, d)
}

func (s *hooked) Done(seq uint64, r persistence.Result) error {
	var ending func(uint64)
	s.set(func() { ending = s.ending })
	if ending != nil {
		ending(seq)
	}
	return s.Memory.Done(seq, r)
}

func (s *hooked) Get(seq uint64, e *persistence.Entry) (ok bool, err error) {
	s.set(func() {
		if s.getting != nil {
			err = s.getting(seq)
		}
	})
	if err != nil {
		return false, err
	}
	return s.Memory.Get(seq, e)
}

func (s *hooked) Sync() error { s.syncs++; return s.Memory.Sync() }

// hookedRig is a rig whose outbox uses a hooked store.
func hookedRig(t testing.TB, cfg outbox.Config, o persistence.Options) (*rig, *hooked) {
	s := &hooked{Memory: persistence.NewMemory(o)}
	cfg.Store = s
	return newRig(t, cfg, s.Memory), s
}
