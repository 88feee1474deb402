package outbox_test

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// This file models which topics are isolated. The outbox sends the messages of an isolated topic
// alone.

// reopen ends the isolation of a topic, because the server has answered one of its messages.
func (m *deferModel) reopen(queueKey string) {
	if _, isolated := m.isolated[queueKey]; !isolated {
		return
	}
	delete(m.isolated, queueKey)
	delete(m.silent, queueKey)
	for _, one := range m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey }) {
		one.alone, one.kept = false, one.id != 0
	}
}

// emptied ends the isolation of a topic if none of its messages is deferred.
func (m *deferModel) emptied(queueKey string) {
	if len(m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey && m.isDeferred(one) })) == 0 {
		m.reopen(queueKey)
	}
}

// isolate makes all messages of a topic sent alone until a time.
func (m *deferModel) isolate(queueKey string, until time.Time) {
	m.isolated[queueKey] = until
	for _, one := range m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey && !one.released }) {
		one.alone, one.until = true, until
	}
}

// strike counts the consecutive connections that may have ended because of each message. An end
// without a reason code is no evidence if a message was acknowledged. A message that was isolated
// keeps its count: the next connection that ends because of it isolates it again.
func (m *deferModel) strike(c *deferConn, reason byte) {
	open := m.pending(func(one *deferMessage) bool { return (c.here[one.n] || c.unsure[one.n]) && !one.released })
	blamed := len(open) > 0 && (reason != 0 || c.acked == 0)
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		switch {
		case blamed && slices.Contains(open, one):
			one.cuts++
		case blamed || c.acked > 0:
			one.cuts = 0
		}
	}
}

// judge checks the reports of messages that are deferred because connections ended. c is the last
// connection, or nil for an earlier one whose end the outbox could not handle.
func (m *deferModel) judge(c *deferConn) {
	for ; m.judged < len(m.reported); m.judged++ {
		d := m.reported[m.judged]
		one := m.list[binary.BigEndian.Uint64(d.ID[:])-1]
		other := m.gave[one.topic] || len(m.pending(func(o *deferMessage) bool {
			return o != one && o.alone && !o.released && o.queueKey() == one.queueKey()
		})) > 0
		switch {
		case !d.Alone:
			m.t.Errorf("message %d was refused by a connection that ended: %+v", one.n, d)
		case c != nil && (!c.here[one.n] && !c.unsure[one.n] || one.cuts < 2 && !one.alone && !other) || one.released:
			m.t.Errorf("message %d (%+v) is deferred alone", one.n, *one)
		}
		queueKey := one.queueKey()
		_, isolated := m.isolated[queueKey]
		switch {
		case m.gave[one.topic]:
			delete(m.silent, queueKey)
			m.isolate(queueKey, one.until)
		case m.silent[queueKey] && (d.Code != 0 || d.Attempts > silentTrials): // the others of its topic overtake it
			m.reopen(queueKey)
		case m.silent[queueKey]:
			m.isolate(queueKey, one.until)
		case d.Code == 0 && !other && !one.alone && !isolated: // they wait for it
			m.silent[queueKey] = true
			m.isolate(queueKey, one.until)
		case other:
			m.isolate(queueKey, one.until)
		}
		one.alone = true
	}
}

// restored determines which topics are isolated after a restart.
func (m *deferModel) restored() {
	alone, until, silent := map[string]int{}, map[string]time.Time{}, map[string]bool{}
	pending := m.pending(func(*deferMessage) bool { return true })
	for _, one := range pending {
		var e persistence.Entry
		if ok, err := m.store.Get(one.seq, &e); err != nil || !ok {
			continue // the store has dropped it
		}
		d := e.Deferral
		// The server accepted a released message in an earlier process. Its PUBCOMP is no evidence
		// about its topic.
		if one.alone = d.Alone && !d.GivenUp && !one.released; one.alone {
			alone[one.queueKey()]++
			silent[one.queueKey()] = d.Code == 0 && d.Attempts <= silentTrials && (alone[one.queueKey()] == 1 || silent[one.queueKey()])
		}
		if !d.Since.IsZero() {
			if d.Until.After(until[one.queueKey()]) {
				until[one.queueKey()] = d.Until
			}
		}
	}
	for queueKey, n := range alone {
		if n > 1 || silent[queueKey] {
			m.isolate(queueKey, until[queueKey])
			m.silent[queueKey] = silent[queueKey]
		}
	}
}
