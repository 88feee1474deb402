package outbox_test

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file has the events of connections: a connection begins or ends, the server loses the session,
// and the process restarts.

func (m *deferModel) connect(present bool) {
	m.begin(present)
	m.unknown, m.began = false, time.Now()
	m.o.Connected(m.g)
	synctest.Wait()
	m.look()
}

func (m *deferModel) begin(present bool) {
	if present = present || m.failing != ""; !present { // otherwise the connection would end
		m.lose()
	}
	limits := session.Limits{ReceiveMaximum: uint16(1 + m.rnd.IntN(12)), MaximumQoS: 2, RetainAvailable: true}
	m.up = &deferConn{limits: limits, here: map[uint64]bool{}, unsure: map[uint64]bool{}}
	m.s.Begin(present)
	m.c = &conn{onSend: m.sent}
	m.g = m.s.Attach(m.c, limits)
	for _, one := range m.pending(func(one *deferMessage) bool { return one.released }) {
		m.up.here[one.n] = true
	}
}

// lose makes the server lose the session.
func (m *deferModel) lose() {
	failing := m.pending(func(one *deferMessage) bool { return one.id != 0 && one.fails && !m.isGivenUp(one) })
	m.s.Begin(false)
	m.lostNow, m.unknown = true, true
	if err := m.o.ResetSession("owner", m.s.Unacked()); err != nil {
		m.t.Fatal(err)
	}
	m.look()
	m.lostNow = false
	m.o.NewSession()
	for _, one := range failing {
		if one.end == nil {
			m.t.Errorf("message %d (%+v) was in flight and did not fail with its session", one.n, *one)
		}
	}
	for _, one := range m.list {
		one.lost = one.lost || one.id != 0 || one.unsure || m.maybeEarlier(one)
		if until, isolated := m.isolated[one.queueKey()]; isolated && one.released { // it is sent again with its topic
			one.until, one.alone = until, true
		}
		one.id, one.order, one.released, one.taken, one.unsure, one.unplaced = 0, 0, false, false, false, false
	}
	clear(m.ids)
	m.earlier = [persistence.Priorities]uint64{}
}

// cutOver ends the connection because of a poisonous message, if there is one.
func (m *deferModel) cutOver() {
	if len(m.pending(func(one *deferMessage) bool { return m.up.here[one.n] && one.poisonous && !one.released })) > 0 {
		m.cut([]byte{0, wire.ReasonNotAuthorized}[m.rnd.IntN(2)])
	}
}

func (m *deferModel) cut(reason byte) {
	c := m.up
	m.up = nil
	m.offered(c)
	m.strike(c, reason)
	open := m.pending(func(one *deferMessage) bool { return (c.here[one.n] || c.unsure[one.n]) && !one.released })
	for _, one := range open {
		if reason == wire.ReasonPacketTooLarge {
			m.expect[one.n] = outbox.Refused
		}
	}
	reports := len(m.reported)
	m.rig.cut(reason)
	m.look()
	for _, one := range open {
		if one.end == nil && !m.isGivenUp(one) {
			delete(m.expect, one.n)
		}
	}
	m.judged = reports
	m.judge(c)
	for _, one := range m.pending(func(one *deferMessage) bool { return c.here[one.n] && one.released && one.alone && !one.taken }) {
		m.reopen(one.queueKey()) // its PUBREC on this connection shows that its topic works
		one.taken = true
	}
}

func (m *deferModel) restart(kill bool) {
	if m.up != nil {
		m.cut(0)
	}
	m.stop()
	why := errors.New("closed")
	if !kill {
		m.o.Close(why)
		m.look()
	}
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		if r := one.w; !kill && r != nil && (r.Result().State != outbox.Abandoned || r.Result().Err != why) {
			m.t.Errorf("message %d ended as %+v with the process", one.n, r.Result())
		}
		one.w, one.order, one.cuts = nil, 0, 0
	}
	m.store = m.store.Reopen()
	m.cfg.Store = &faulty{m.store, m}
	m.ended, m.seen = nil, 0
	m.start()
	m.process++
	m.earlySeq = m.store.LastSeq()
	for p := range m.earlier {
		m.earlier[p] = m.store.Sent(persistence.Priority(p))
	}
	m.pending(m.isGivenUp)
	clear(m.gave)
	clear(m.isolated)
	clear(m.silent)
	m.restored()
	synctest.Wait()
}
