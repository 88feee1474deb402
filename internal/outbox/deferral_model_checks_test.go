package outbox_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file checks the ends of messages when they are reported, and the whole outbox after each step.

func (m *deferModel) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.seen < len(m.ended); m.seen++ {
		m.end(m.ended[m.seen])
	}
	for i := range m.reported {
		if d := &m.reported[i]; d.For > 0 {
			one := m.list[binary.BigEndian.Uint64(d.ID[:])-1]
			until := time.Now().Add(d.For)
			if d.For = 0; d.Alone {
				one.until = until
			} else if queueKey := one.queueKey(); until.After(m.until[queueKey]) {
				m.until[queueKey] = until
			}
		}
	}
}

func (m *deferModel) end(e outbox.End) {
	n := binary.BigEndian.Uint64(e.ID[:])
	if n == 0 { // of an earlier process: the store has dropped it, or its PUBCOMP was received
		list := m.pending(func(one *deferMessage) bool {
			ok, _ := m.store.Get(one.seq, new(persistence.Entry))
			return !ok && one.process < m.process && (e.State != outbox.Acked || m.expect[one.n] == outbox.Acked) &&
				!slices.ContainsFunc(m.ended[m.seen:], func(e outbox.End) bool { return binary.BigEndian.Uint64(e.ID[:]) == one.n })
		})
		if len(list) == 0 {
			m.t.Errorf("an unknown message ended: %+v", e)
			return
		}
		n = list[0].n
	}
	if n > uint64(len(m.list)) {
		return // DropNewest
	}
	one := m.list[n-1]
	fail := func(why string) { m.t.Errorf("message %d (%+v) ended as %+v: %s", n, *one, e, why) }
	if one.end != nil {
		fail("a second time")
		return
	}
	one.end = &e
	m.counts[e.State]++
	if one.w != nil {
		if r := one.w.Result(); r.State != e.State || r.Err != e.Err {
			fail(fmt.Sprintf("the waiter has %+v", r))
		}
	}
	if e.Cause == outbox.Poison && !one.givenUp {
		m.gave[one.topic] = true
	}
	switch e.Cause {
	case outbox.ByServer, outbox.Poison:
		if m.expect[n] != e.State {
			fail(fmt.Sprintf("want %v", m.expect[n]))
		}
	case outbox.TimePassed:
		if one.expires.IsZero() || time.Until(one.expires) > time.Millisecond || one.id != 0 {
			fail("it must not expire")
		}
	case outbox.StoreFull, outbox.Replaced:
		if one.id != 0 {
			fail("it may have been sent")
		}
	case outbox.SessionLost:
		if !m.lostNow || !one.fails || one.id == 0 && !m.maybeEarlier(one) && !one.unsure {
			fail("it is published again in the next session")
		}
	default:
		fail("why?")
	}
	delete(m.ids, one.id)
	if m.up != nil {
		delete(m.up.here, n)
	}
}

// check compares the totals, and checks that all messages that can be sent are in flight.
func (m *deferModel) check() {
	m.t.Helper()
	synctest.Wait()
	if m.up != nil {
		m.answerPurges(func(id uint16) uint64 {
			if n := m.ids[id]; n != 0 && !m.isGivenUp(m.list[n-1]) {
				return n
			}
			return 0
		})
		m.offered(m.up)
	}
	m.look()
	for ; m.judged < len(m.reported); m.judged++ {
		if m.reported[m.judged].Alone { // the store had failed
			m.judge(nil)
			break
		}
	}
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		m.keep(one)
	}
	st := m.store.Stats()
	pending := m.pending(func(*deferMessage) bool { return true })
	m.counts[outbox.Pending] = uint64(len(pending))
	got := map[outbox.State]uint64{outbox.Acked: st.Acked, outbox.Refused: st.Refused, outbox.Expired: st.Expired,
		outbox.Dropped: st.Dropped, outbox.DeadLettered: st.DeadLettered, outbox.Pending: st.Pending}
	for state, n := range got {
		if n != m.counts[state] {
			m.t.Errorf("state %d: the store counts %d messages, want %d", state, n, m.counts[state])
		}
	}
	released := m.pending(func(one *deferMessage) bool { return one.released })
	if d := m.o.Deferred(); uint64(d.Messages) > st.Deferred || d.Messages+len(released) < int(st.Deferred) {
		m.t.Errorf("%d messages are deferred, in the store %d, %d released", d.Messages, st.Deferred, len(released))
	}
	for _, one := range pending {
		if m.isGivenUp(one) && m.up != nil {
			m.t.Errorf("message %d (%+v) is given up, its packet identifier is purged, and it is pending", one.n, *one)
		}
		if late := min(time.Since(one.expires), time.Since(m.began)); !one.expires.IsZero() && late > second && one.id == 0 && !one.unsure && !m.unknown && !m.maybeEarlier(one) {
			m.t.Errorf("message %d (%+v) is pending %v after its time", one.n, *one, late)
		}
	}
	if open := m.o.Open(); open > len(pending) {
		m.t.Errorf("%d messages are open, %d are pending", open, len(pending))
	}
	for queueKey := range m.isolated {
		m.emptied(queueKey)
	}
	m.flowing(pending)
}

// flowing checks that each message that may be sent is in flight, if there is room.
func (m *deferModel) flowing(pending []*deferMessage) {
	c := m.up
	if c == nil || c.broken {
		return
	}
	window := int(c.limits.ReceiveMaximum)
	if limit := m.o.Window(); limit > 0 {
		window = min(window, limit)
	}
	if len(c.here) >= window {
		return
	}
	for _, one := range pending { // a message that is sent alone, or is about to be
		if one.alone && (c.here[one.n] || time.Until(one.until) < time.Millisecond) {
			return
		}
		// A later process knows the times of the remaining messages.
		if x := m.deferral(one).Deferral; m.process > 0 && x.Alone && time.Until(x.Until) < time.Millisecond {
			return
		}
	}
	for _, one := range pending {
		if c.here[one.n] || one.alone || one.givenUp || (one.id == 0 || one.kept) && time.Now().Before(m.until[one.queueKey()]) {
			continue
		}
		// Others of its topic may be in flight.
		if one.id != 0 && !one.kept || !slices.ContainsFunc(pending, func(o *deferMessage) bool { return o.queueKey() == one.queueKey() && !o.alone && c.here[o.n] }) {

			m.t.Errorf("message %d (%+v, %+v) is not in flight; %d are, the window is %d", one.n, *one, m.deferral(one).Deferral, len(c.here), window)
		}
	}
}
