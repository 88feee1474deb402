package outbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file has the events of a history, except those of connections and faults: the application adds
// a message, time passes, and the server answers.

func (m *deferModel) step() {
	switch p := m.rnd.IntN(200); {
	case p < 70:
		m.add()
	case p < 125:
		m.answer()
	case p < 145 && m.up == nil:
		m.connect(m.rnd.IntN(8) > 0)
	case p < 150 && m.up != nil:
		m.cut([]byte{0, 0, 0x8B, 0x87, wire.ReasonPacketTooLarge}[m.rnd.IntN(5)])
	case p < 160 && m.up != nil:
		m.cutOver()
	case p < 175:
		m.sleep(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	case p < 185:
		topic := m.topics[m.rnd.IntN(len(m.topics))]
		if m.refuses[topic] = 0; m.rnd.IntN(2) == 0 {
			m.refuses[topic] = passing[m.rnd.IntN(len(passing))]
		}
	case p < 188 && !m.unread: // otherwise a refusal is lost with the process
		m.restart(m.rnd.IntN(2) == 0)
	case p < 190 && m.up == nil:
		// A connection that ends before messages may be sent on it.
		m.begin(m.rnd.IntN(2) > 0)
		m.s.Detach(m.g)
		m.up = nil
	case p < 192 && m.up != nil:
		m.breakOff()
	case p < 195 && m.faults && m.failing == "":
		m.fail()
	}
}

func (m *deferModel) add() {
	n := uint64(len(m.list)) + 1
	one := &deferMessage{n: n, topic: m.topics[m.rnd.IntN(len(m.topics))], qos: 1 + byte(m.rnd.IntN(2)),
		priority: persistence.Priority(max(m.rnd.IntN(6)-3, 0)), process: m.process, poisonous: m.rnd.IntN(12) == 0}
	d := on(one.topic, n, one.qos)
	d.Priority, d.OnSessionLost = one.priority, persistence.SessionLostPolicy(m.rnd.IntN(3))
	one.fails = d.OnSessionLost == persistence.FailInFlight || d.OnSessionLost == persistence.AsConfigured && m.cfg.OnSessionLost == persistence.FailInFlight
	if m.rnd.IntN(6) == 0 {
		one.key = one.topic
		d.Key = one.key
	}
	if m.rnd.IntN(5) == 0 {
		d.Expiry = time.Duration(1+m.rnd.IntN(20)) * second
		one.expires = time.Now().Add(d.Expiry)
	}
	one.until, one.alone = m.isolated[one.queueKey()]
	one.w = new(outbox.Waiter)
	last := m.store.LastSeq()
	one.seq, one.number = last+1, m.numbers[one.priority]+1
	if one.priority == persistence.Normal {
		one.number = last + 1
	}
	m.list = append(m.list, one) // it may be sent before Add returns
	m.numbers[one.priority]++
	err := m.o.Add(context.Background(), d, one.w)
	synctest.Wait()
	if m.store.LastSeq() != last {
		if err != nil {
			m.t.Errorf("Add of a stored message returned %v", err)
		}
		return
	}
	m.list = m.list[:n-1]
	m.numbers[one.priority]--
	m.look()
	if full := errors.Is(err, persistence.ErrFull); full == (m.cfg.WhenFull == outbox.DropNewest) {
		m.t.Errorf("Add of a message that is not stored returned %v", err)
	}
}

// sleep lets time pass. The send loop may use the model meanwhile; the lock of look orders these
// accesses.
func (m *deferModel) sleep(d time.Duration) {
	m.look()
	time.Sleep(d)
	synctest.Wait()
	m.look()
}

// answer makes the server answer a message.
func (m *deferModel) answer() {
	if m.up == nil {
		return
	}
	list := m.pending(func(one *deferMessage) bool { return m.up.here[one.n] && (!one.poisonous || one.released) })
	if len(list) == 0 {
		return
	}
	one := list[m.rnd.IntN(len(list))]
	code := m.refuses[one.topic]
	if code == 0 && m.rnd.IntN(12) == 0 {
		code = passing[m.rnd.IntN(len(passing))]
	} else if m.rnd.IntN(40) == 0 {
		code = final
	}
	m.answerOne(one, code)
}

func (m *deferModel) answerOne(one *deferMessage, code byte) {
	kind, last := wire.PUBACK, true
	if one.released {
		kind, code = wire.PUBCOMP, 0
	} else if one.qos == 2 {
		kind, last = wire.PUBREC, code >= 0x80
	}
	id, reports := one.id, len(m.reported)
	if last {
		if one.alone && !one.taken {
			m.reopen(one.queueKey())
		}
		delete(m.up.here, one.n)
		delete(m.ids, one.id)
		one.id, one.order, one.cuts, one.alone, one.unplaced = 0, 0, 0, false, false
		m.up.acked++
		switch code {
		case 0:
			m.expect[one.n] = outbox.Acked
		case final:
			m.expect[one.n] = outbox.Refused
		case wire.ReasonPacketIDInUse:
			one.last = id
		}
	} else {
		one.released = true
	}
	m.acking = one.n
	m.ack(kind, id, code)
	m.acking = 0
	m.look()
	switch {
	case !last || code == 0 || code == final:
	case one.end != nil && one.end.State != outbox.Dropped && one.end.State != outbox.Expired:
		m.t.Errorf("message %d (%+v) ended at a refusal with 0x%02X: %+v", one.n, *one, code, *one.end)
	case m.failing != "":
		m.unread, one.lost = true, true // others may overtake it until it is read
	case !slices.ContainsFunc(m.reported[reports:], func(d outbox.Delay) bool {
		return binary.BigEndian.Uint64(d.ID[:]) == one.n && d.Code == code && !d.Alone
	}):
		m.t.Errorf("the refusal of message %d with 0x%02X was not reported: %+v", one.n, code, m.reported[reports:])
	}
}

// finish makes the server accept all messages.
func (m *deferModel) finish() {
	if m.up != nil {
		m.cut(0)
	}
	clear(m.refuses)
	for _, one := range m.list {
		one.poisonous = false
	}
	m.connect(true)
	began := time.Now()
	for len(m.pending(func(*deferMessage) bool { return true })) > 0 && time.Since(began) < 20*second && !m.t.Failed() {
		for _, one := range m.pending(func(one *deferMessage) bool { return m.up.here[one.n] }) {
			m.answerOne(one, 0)
		}
		m.check()
		m.sleep(second / 10)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), second)
	defer cancel()
	if err := m.o.WaitIdle(ctx); err != nil || m.o.Open() > 0 || m.o.Deferred().Messages != 0 {
		m.t.Errorf("WaitIdle returned %v; %d messages are open, and deferred: %+v", err, m.o.Open(), m.o.Deferred())
		for _, one := range m.pending(func(*deferMessage) bool { return true }) {
			m.t.Errorf("message %d (%+v) is pending: %+v", one.n, *one, m.deferral(one).Deferral)
		}
	}
	if took := time.Since(began); took > 17*second {
		m.t.Errorf("everything was delivered after %v", took)
	}
	if len(m.failed) > 0 && !m.faults {
		m.t.Errorf("the store failed: %v", m.failed)
	}
}
