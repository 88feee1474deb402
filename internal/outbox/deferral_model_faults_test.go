package outbox_test

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file has the faults of a history: an operation of the store fails, or all writes to a
// connection fail.

// fail makes an operation of the store fail during some steps.
func (m *deferModel) fail() {
	m.setFailing([]string{"Get", "Next", "SetSent", "Sync"}[m.rnd.IntN(4)])
	for range 1 + m.rnd.IntN(6) {
		m.step()
		synctest.Wait()
		m.look()
		if m.t.Failed() {
			return
		}
	}
	m.setFailing("")
	m.unread = false
	m.sleep(1100 * time.Millisecond) // after an error, the outbox waits a second before it uses the store again
}

func (m *deferModel) setFailing(op string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = op
}

// faulty is a store with one operation that may fail.
type faulty struct {
	*persistence.Memory
	m *deferModel
}

var errFaulty = errors.New("the store fails")

func (s *faulty) fails(op string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.m.failing == op {
		return errFaulty
	}
	return nil
}

func (s *faulty) Get(seq uint64, e *persistence.Entry) (bool, error) {
	if err := s.fails("Get"); err != nil {
		return false, err
	}
	return s.Memory.Get(seq, e)
}

func (s *faulty) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	if err := s.fails("Next"); err != nil {
		return false, err
	}
	return s.Memory.Next(c, e)
}

func (s *faulty) SetSent(p persistence.Priority, number uint64) error {
	if err := s.fails("SetSent"); err != nil {
		return err
	}
	return s.Memory.SetSent(p, number)
}

func (s *faulty) Sync() error {
	if err := s.fails("Sync"); err != nil {
		return err
	}
	return s.Memory.Sync()
}

func (s *faulty) Defer(seq uint64, d persistence.Deferral) error {
	if err := s.fails("Defer"); err != nil {
		return err
	}
	return s.Memory.Defer(seq, d)
}

// breakOff makes all writes to the connection fail from now on. The server may still answer.
func (m *deferModel) breakOff() {
	m.c.mu.Lock()
	m.c.over = true
	m.c.mu.Unlock()
	m.up.broken = true
	m.o.Wake()
}

// offered finds the messages that were offered on a connection after writes to it failed. The
// outbox may or may not regard them as sent.
func (m *deferModel) offered(c *deferConn) {
	for _, one := range m.pending(func(one *deferMessage) bool { return c.broken && !c.here[one.n] }) {
		var e persistence.Entry
		ok, err := m.store.Get(one.seq, &e)
		id := max(one.id, e.Deferral.PacketID)
		if id == 0 {
			id = session.PacketID(uint8(one.priority), one.number)
		}
		if by := m.ids[id]; ok && err == nil && m.g.InUse(id) && (by == 0 || by == one.n) {
			c.unsure[one.n] = true
			one.unsure, one.unplaced = one.unsure || one.id == 0, one.unplaced || one.order == 0
		}
	}
}
