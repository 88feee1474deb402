package outbox_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// This file checks each PUBLISH when it is sent, each end when it is reported, and the whole outbox
// after each event.

// sent checks a PUBLISH while it is sent. It first checks the ends reported before.
func (m *model) sent(v wire.PublishView) {
	m.look()
	n := indexOf(v)
	one, c := m.messages[n-1], m.conn
	fail := func(format string, args ...any) {
		m.t.Errorf("message %d (%+v): %s", n, *one, fmt.Sprintf(format, args...))
	}
	id := session.PacketID(uint8(one.priority), one.number)
	switch {
	case one.end != nil:
		fail("sent after its end %+v", *one.end)
	case c.here[n]:
		fail("sent twice on one connection")
	case one.released:
		fail("sent after its PUBREC")
	case v.PacketID != id || c.inFlight[id] > 0:
		fail("sent under identifier %d, want %d; in use: %v", v.PacketID, id, c.inFlight)
	case one.qos > c.limits.MaximumQoS:
		fail("sent above the Maximum QoS")
	case m.store.Sent(one.priority) < one.number:
		fail("sent before the store knows; the watermark is %d", m.store.Sent(one.priority))
	case !v.Dup && one.key != "" && one.process == m.process && slices.ContainsFunc(m.messages[n:], func(o *modelMessage) bool { return o.key == one.key && m.accepted(o) }):
		fail("sent although a newer message replaced it")
	case v.Dup != (one.order > 0 || m.maybeEarlier(one)) || one.wire && !v.Dup:
		fail("DUP is %v", v.Dup)
	}
	window := int(c.limits.ReceiveMaximum)
	if c.inFlight[id] = n; len(c.inFlight) > window {
		fail("%d in flight, Receive Maximum is %d", len(c.inFlight), window)
	}
	m.inOrder(one, fail)
	if !c.started {
		c.started, c.first = true, n
	}
	c.here[n], one.wire = true, true
	if one.order == 0 {
		m.sends++
		one.order = m.sends
	}
	m.highest[one.priority] = max(m.highest[one.priority], one.number)
}

// inOrder checks that resends come first, in the order of sending, and then each priority in the
// order of acceptance.
func (m *model) inOrder(one *modelMessage, fail func(string, ...any)) {
	c := m.conn
	if one.order > 0 {
		if one.order < c.resent {
			fail("resent after one that was sent later")
		}
		c.resent = one.order
		return
	}
	if left := m.pending(func(o *modelMessage) bool { return o.order > 0 && !c.here[o.n] && !m.isGivenUp(o) }); len(left) > 0 {
		fail("sent before message %d is resent", left[0].n)
	}
	if left := m.pending(func(o *modelMessage) bool {
		return !c.here[o.n] && o.n != one.n && (o.priority > one.priority || o.priority == one.priority && o.n < one.n) && m.accepted(o) && !m.isGivenUp(o)
	}); len(left) > 0 {
		fail("sent before message %d of priority %d", left[0].n, left[0].priority)
	}
}

// look checks the ends reported since the last call.
func (m *model) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.seen < len(m.ended); m.seen++ {
		m.end(m.ended[m.seen])
	}
}

func (m *model) end(e outbox.End) {
	n := binary.BigEndian.Uint64(e.ID[:])
	if n == 0 && e.State == outbox.Acked { // an earlier process received its PUBREC
		n = m.acking
	}
	if n == 0 { // of an earlier process, dropped by the store
		named := func(one *modelMessage) bool { // an End that is checked later has named it
			return slices.ContainsFunc(m.ended[m.seen:], func(e outbox.End) bool { return binary.BigEndian.Uint64(e.ID[:]) == one.n })
		}
		dropped := m.pending(func(one *modelMessage) bool { return one.process < m.process && m.gone(one) && !named(one) })
		if e.State != outbox.Dropped || len(dropped) == 0 {
			m.t.Errorf("an unknown message ended: %+v", e)
			return
		}
		n = dropped[0].n
	}
	if n > uint64(len(m.messages)) {
		return // dropped by DropNewest; add counts it
	}
	one := m.messages[n-1]
	fail := func(why string) { m.t.Errorf("message %d (%+v) ended as %+v: %s", n, *one, e, why) }
	if one.end != nil {
		fail("a second time")
	}
	one.end = &e
	m.counts[e.State]++
	if one.w != nil {
		if r := one.w.Result(); r.State != e.State || r.Reason != e.Reason || r.Err != e.Err {
			fail(fmt.Sprintf("the waiter has %+v", r))
		}
	}
	switch want := m.expect[n]; e.Cause {
	case outbox.ByServer, outbox.Poison:
		if e.State != want.State || e.Reason != want.Reason || e.Attempts != want.Attempts || e.Cause != want.Cause || (e.Err == nil) != (e.State == outbox.Acked) {
			fail(fmt.Sprintf("want %+v", want))
		}
	case outbox.ByLimit:
		if !one.givenUp && (m.conn == nil || one.qos <= m.conn.limits.MaximumQoS) {
			fail("the server would have accepted it")
		}
	case outbox.TimePassed:
		if one.expires.IsZero() || time.Until(one.expires) > time.Millisecond || one.order > 0 || m.maybeEarlier(one) {
			fail("it must not expire")
		}
	case outbox.StoreFull, outbox.Replaced:
		if one.wire || m.maybeEarlier(one) {
			fail("it may have been sent")
		}
		if e.Cause == outbox.Replaced && !slices.ContainsFunc(m.messages[n:], func(o *modelMessage) bool { return o.key == one.key }) {
			fail("there is no newer message with its key")
		}
	case outbox.SessionLost:
		m.lost++
		if !one.fails || !one.wire && !m.maybeEarlier(one) {
			fail("it is published again in the next session")
		}
	default:
		fail("why?")
	}
}

// check compares the totals, and checks that expired messages have ended.
func (m *model) check() {
	m.t.Helper()
	synctest.Wait()
	if m.c != nil {
		m.answerPurges(func(uint16) uint64 { return 0 })
	}
	m.look()
	st := m.store.Stats()
	pending := m.pending(func(*modelMessage) bool { return true })
	if st.Accepted != st.Acked+st.Refused+st.Expired+st.Dropped+st.DeadLettered+st.Pending {
		m.t.Errorf("the sum is wrong: %+v", st)
	}
	for state, got := range map[outbox.State]uint64{outbox.Acked: st.Acked, outbox.Refused: st.Refused, outbox.Expired: st.Expired,
		outbox.Dropped: st.Dropped, outbox.DeadLettered: st.DeadLettered, outbox.Pending: st.Pending} {
		want := m.counts[state]
		if state == outbox.Pending {
			want = uint64(len(pending))
		}
		if got != want {
			m.t.Errorf("state %d: the store counts %d messages, want %d", state, got, want)
		}
	}
	for _, one := range pending {
		if m.isGivenUp(one) && m.conn != nil {
			m.t.Errorf("message %d (%+v) is given up, its packet identifier is purged, and it is pending", one.n, *one)
		}
		late := !one.expires.IsZero() && min(time.Since(one.expires), time.Since(m.began)) > second
		if late && one.order == 0 && !m.maybeEarlier(one) {
			m.t.Errorf("message %d (%+v) is pending %v after its time", one.n, *one, time.Since(one.expires))
		}
	}
	if open := m.o.Open(); open > len(pending) {
		m.t.Errorf("%d messages are open, %d are pending", open, len(pending))
	}
}
