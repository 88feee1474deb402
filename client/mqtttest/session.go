package mqtttest

import "time"

// session is what section 4.1 calls Session State. It belongs to a Client
// Identifier and outlives connections as long as its Session Expiry Interval
// says. Guarded by Broker.state.
type session struct {
	b        *Broker
	id       uint64 // in the journal
	clientID string
	conn     *conn  // nil while the client is away
	expiry   uint32 // seconds, NeverExpires
	// keeps is whether messages are worth journalling: the session was not
	// bound to end with its connection from the start.
	keeps bool

	subs    map[string]*subscription // by whole filter
	queue   queue
	flights inflight
	inbound map[uint16]struct{} // QoS 2 messages from the client that await PUBREL

	will     *will
	lostAt   time.Time // when the connection ended
	willDue  *timer
	endsWith *timer
}

func (b *Broker) newSession(clientID string) *session {
	b.sessionID++
	s := &session{b: b, id: b.sessionID, clientID: clientID,
		subs: make(map[string]*subscription), inbound: make(map[uint16]struct{})}
	b.sessions[clientID] = s
	return s
}

// enqueue puts a message at the end of the queue, within the limits.
func (s *session) enqueue(e entry) {
	b := s.b
	if e.qos == 0 && s.conn == nil {
		b.stats.DroppedOffline++
		return
	}
	if !s.room(e.msg) {
		s.dropExpired()
		if !s.room(e.msg) {
			b.stats.DroppedQueueFull++
			return
		}
	}
	s.queue.push(e)
	if s.durable(&e) {
		b.log.queued(s, &e)
	}
	b.mark(s.conn)
}

func (s *session) room(m *message) bool {
	return s.queue.n < s.b.opts.MaxQueuedMessages && s.queue.bytes+m.size() <= s.b.opts.MaxQueuedBytes
}

// durable reports whether an entry is in the journal's picture of the queue.
func (s *session) durable(e *entry) bool { return s.keeps && e.qos > 0 }

// dropHead takes the first message off the queue that will not be sent.
func (s *session) dropHead(counter *uint64) {
	e := s.queue.pop()
	if s.durable(&e) {
		s.b.log.dropped(s, 0)
	}
	*counter++
}

// dropExpired makes room, if there may be something to drop: a queue that
// stays full must not be searched for each message.
func (s *session) dropExpired() {
	if q := &s.queue; q.soonest.IsZero() || time.Now().Before(q.soonest) {
		return
	}
	s.sift(func(e *entry) bool {
		if e.msg.expired() {
			s.b.stats.DroppedExpired++
			return false
		}
		return true
	})
}

// sift keeps those messages of the queue that keep wants, here and in the
// journal.
func (s *session) sift(keep func(*entry) bool) {
	index := 0
	s.queue.sift(func(e *entry) bool {
		durable := s.durable(e)
		if keep(e) {
			if durable {
				index++
			}
			return true
		}
		if durable {
			s.b.log.dropped(s, index)
		}
		return false
	})
}

// complete ends the exchange of f.
func (s *session) complete(f *flight) {
	s.flights.remove(f, s.conn)
	if s.durable(&f.entry) {
		s.b.log.completed(s, f.id)
	}
	s.b.mark(s.conn)
}

// detach parts s from its connection. send is whether the client has not said
// DISCONNECT 0x00. The session may be over afterwards.
func (b *Broker) detach(s *session, send bool) {
	s.conn = nil
	b.stats.Connections--
	s.lostAt = time.Now()
	if n := s.queue.qos0; n > 0 {
		b.stats.DroppedOffline += uint64(n)
		s.sift(func(e *entry) bool { return e.qos > 0 })
	}
	if !send {
		s.will = nil
	}
	if s.expiry == 0 {
		b.endSession(s)
		return
	}
	b.await(s)
	b.log.session(s)
}

// await starts the clocks of a session without a connection, which was lost
// at lostAt: its will, and its end.
func (b *Broker) await(s *session) {
	if s.will != nil {
		due := s.lostAt.Add(time.Duration(s.will.delay) * time.Second)
		if !due.After(time.Now()) {
			b.publishWill(s)
		} else {
			s.willDue = b.at(due, func() {
				b.publishWill(s)
				b.log.session(s)
			})
		}
	}
	if s.expiry != NeverExpires {
		ends := s.lostAt.Add(time.Duration(s.expiry) * time.Second)
		s.endsWith = b.at(ends, func() {
			b.stats.SessionsExpired++
			b.endSession(s)
		})
	}
}

// endSession ends a session that has no connection: the will goes out, if it
// is still there [MQTT-3.1.2-8], and the unfinished messages of Shared
// Subscriptions go to other members.
func (b *Broker) endSession(s *session) {
	b.forget(s)
	b.publishWill(s)
	for f := s.flights.first; f != nil; f = f.next {
		// One that has begun at QoS 2 must not go to another member [MQTT-4.8.2-5].
		if f.share != "" && f.qos == 1 {
			b.redistribute(&f.entry)
		}
	}
	for i := range s.queue.n {
		e := s.queue.at(i)
		if e.share != "" {
			b.redistribute(e)
		}
	}
	b.log.ended(s)
}

// forget takes s out of the broker's tables, without consequences.
func (b *Broker) forget(s *session) {
	b.stop(s.willDue)
	b.stop(s.endsWith)
	for _, sub := range s.subs {
		b.tree.remove(sub)
	}
	b.stats.Subscriptions -= len(s.subs)
	clear(s.subs)
	delete(b.sessions, s.clientID)
}
