package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file has the events of a history: what the application, the server and the connection do, and
// restarts of the process.

func (m *model) add() {
	n := uint64(len(m.messages)) + 1
	one := &modelMessage{n: n, qos: 1 + byte(m.rnd.IntN(2)), priority: persistence.Priority(m.rnd.IntN(3)), process: m.process}
	d := on(fmt.Sprint("t/", n), n, one.qos) // separate topics, so that no topic is blamed for another message
	d.Priority, d.OnSessionLost = one.priority, persistence.SessionLostPolicy(m.rnd.IntN(3))
	one.fails = d.OnSessionLost == persistence.FailInFlight || d.OnSessionLost == persistence.AsConfigured && m.cfg.OnSessionLost == persistence.FailInFlight
	if m.rnd.IntN(4) == 0 {
		one.key = string(rune('a' + m.rnd.IntN(3)))
		d.Key = one.key
	}
	if m.rnd.IntN(3) == 0 {
		d.Expiry = time.Duration(1+m.rnd.IntN(8)) * second
		one.expires = time.Now().Add(d.Expiry)
	}
	one.w = new(outbox.Waiter)
	last := m.store.LastSeq()
	// A message that is sent at once is in the model before Add returns.
	m.messages = append(m.messages, one)
	one.seq, one.number = last+1, m.numbers[one.priority]+1
	if one.priority == persistence.Normal {
		one.number = last + 1
	}
	err := m.o.Add(context.Background(), d, one.w)
	synctest.Wait()
	if m.store.LastSeq() == last { // it was not accepted
		m.messages = m.messages[:n-1]
		if full := errors.Is(err, persistence.ErrFull); full == (m.cfg.WhenFull == outbox.DropNewest) {
			m.t.Errorf("Add of a message that is not stored returned %v", err)
		}
		if err == nil {
			wantState(m.t, one.w, outbox.Dropped)
			m.seen++
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.numbers[one.priority]++
}

func (m *model) acknowledge() {
	if m.conn == nil {
		return
	}
	list := m.pending(func(one *modelMessage) bool { return m.conn.here[one.n] })
	if len(list) == 0 {
		return
	}
	m.acknowledgeOne(list[m.rnd.IntN(len(list))], []byte{0, 0, 0, wire.ReasonNoMatchingSubscribers, wire.ReasonNotAuthorized, wire.ReasonQuotaExceeded}[m.rnd.IntN(6)])
}

func (m *model) acknowledgeOne(one *modelMessage, reason byte) {
	kind, final := wire.PUBACK, true
	if one.released {
		kind, reason = wire.PUBCOMP, 0
	} else if one.qos == 2 {
		kind, final = wire.PUBREC, reason >= 0x80
	}
	id := session.PacketID(uint8(one.priority), one.number)
	if final {
		e := outbox.End{State: outbox.Acked, Reason: reason}
		if reason >= 0x80 {
			if e.State = outbox.Refused; m.cfg.DeadLetters {
				e.State = outbox.DeadLettered
			}
		}
		m.expect[one.n] = e
		m.conn.acked, m.conn.passed = true, max(m.conn.passed, one.order)
		delete(m.conn.inFlight, id)
	} else {
		one.released = true
	}
	m.acking = one.n
	m.ack(kind, id, reason)
	m.look()
}

func (m *model) connect(present bool) {
	limits := session.Limits{ReceiveMaximum: uint16(1 + m.rnd.IntN(12)), MaximumQoS: 2, RetainAvailable: true}
	if m.rnd.IntN(10) == 0 {
		limits.MaximumQoS = 1
	}
	m.connectWith(present, limits)
}

func (m *model) connectWith(present bool, limits session.Limits) {
	if !present {
		m.lose()
	}
	m.conn = &modelConn{limits: limits, here: map[uint64]bool{}, inFlight: map[uint16]uint64{}}
	for _, one := range m.pending(func(one *modelMessage) bool { return one.released }) {
		m.conn.started, m.conn.here[one.n] = true, true
		m.conn.inFlight[session.PacketID(uint8(one.priority), one.number)] = one.n
	}
	if m.s.Begin(present) != !present {
		m.t.Error("the session is lost, or not")
	}
	m.c = &conn{onSend: m.sent}
	m.g = m.s.Attach(m.c, limits)
	m.o.Connected(m.g)
	synctest.Wait()
}

// lose makes the server lose the session. Messages in flight fail, or are sent again like new ones.
func (m *model) lose() {
	failing := m.pending(func(one *modelMessage) bool { return one.wire && one.fails && !m.isGivenUp(one) })
	again := m.pending(func(one *modelMessage) bool { return one.wire && !one.fails && !m.isGivenUp(one) })
	lost := m.lost
	m.s.Begin(false)
	if err := m.o.ResetSession("owner", m.s.Unacked()); err != nil {
		m.t.Fatal(err)
	}
	m.look()
	got := m.o.NewSession()
	if got.Failed != m.lost-lost || got.Failed < len(failing) || got.Republished < len(again) {
		m.t.Errorf("lost %+v; %d failed, at least %d must, and %d are published again", got, m.lost-lost, len(failing), len(again))
	}
	for _, one := range failing {
		if one.end == nil {
			m.t.Errorf("message %d was in flight and did not fail with its session", one.n)
		}
	}
	for _, one := range m.messages {
		one.wire, one.order, one.released = false, 0, false
	}
	m.earlier, m.highest, m.began = [persistence.Priorities]uint64{}, [persistence.Priorities]uint64{}, time.Now()
	m.g = m.s.Attach(&conn{}, session.Limits{})
	m.s.Detach(m.g)
}

func (m *model) cut(reason byte) {
	c := m.conn
	m.conn = nil
	first, poisoned := uint64(0), uint64(0)
	for _, one := range m.pending(func(one *modelMessage) bool { return c.here[one.n] && !one.released }) {
		if first == 0 || one.order < m.messages[first-1].order {
			first = one.n
		}
	}
	switch {
	case first == 0 || reason == 0 && c.acked || m.messages[first-1].order < c.passed:
		if c.acked {
			m.candidate, m.strikes = 0, 0
		}
	default:
		if first != m.candidate {
			m.candidate, m.strikes = first, 0
		}
		if m.strikes++; m.strikes >= poisonAttempts {
			reason = wire.ReasonPacketTooLarge // any other reason would defer the message
			poisoned = first
			e := outbox.End{State: outbox.Refused, Reason: reason, Cause: outbox.Poison, Attempts: m.strikes}
			if m.cfg.DeadLetters {
				e.State = outbox.DeadLettered
			}
			m.expect[first] = e
		}
	}
	m.rig.cut(reason)
	m.look()
	if poisoned > 0 && m.messages[poisoned-1].end == nil && !m.isGivenUp(m.messages[poisoned-1]) {
		m.t.Errorf("message %d ended %d connections and is pending", poisoned, m.strikes)
	}
}

// restart ends the process, cleanly or not, and starts another one.
func (m *model) restart(kill bool) {
	if m.conn != nil {
		m.cut(0)
	}
	m.stop()
	why := errors.New("closed")
	if !kill {
		m.o.Close(why)
		for p, highest := range m.highest {
			if got, want := m.store.Sent(persistence.Priority(p)), max(highest, m.earlier[p]); got != want {
				m.t.Errorf("the watermark of priority %d is %d after Close, want %d", p, got, want)
			}
		}
	}
	for _, one := range m.pending(func(one *modelMessage) bool { return one.w != nil }) {
		if r := one.w.Result(); !kill && (r.State != outbox.Abandoned || r.Err != why) {
			m.t.Errorf("message %d ended as %+v with the process", one.n, r)
		}
		one.w = nil
	}
	m.store = m.store.Reopen()
	m.ended, m.seen = nil, 0
	m.start()
	m.process++
	m.candidate, m.strikes, m.sends = 0, 0, 0
	for p := range m.earlier {
		m.earlier[p] = m.store.Sent(persistence.Priority(p))
		if m.highest[p] > m.earlier[p] {
			m.t.Errorf("priority %d: messages up to %d were sent, the store knows of %d", p, m.highest[p], m.earlier[p])
		}
	}
	for _, one := range m.messages {
		one.order = 0
	}
	synctest.Wait()
}

// finish makes the server acknowledge all messages.
func (m *model) finish() {
	if m.conn != nil {
		m.cut(0)
	}
	m.connectWith(true, session.Limits{ReceiveMaximum: 100, MaximumQoS: 2, RetainAvailable: true})
	m.answerPurges(func(uint16) uint64 { return 0 })
	for range 3 {
		for _, one := range m.pending(func(one *modelMessage) bool { return m.conn.here[one.n] }) {
			m.acknowledgeOne(one, 0)
		}
	}
	m.check()
	if err := m.o.WaitIdle(m.t.Context()); err != nil || m.o.Open() > 0 {
		m.t.Errorf("WaitIdle returned %v; %d messages are open", err, m.o.Open())
	}
	if len(m.failed) > 0 {
		m.t.Errorf("the store failed: %v", m.failed)
	}
}
