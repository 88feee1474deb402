package mqtttest

import "time"

func (b *Broker) newSession(clientID string) *session {
	b.sessionID++
	s := &session{b: b, id: b.sessionID, clientID: clientID,
		subs: make(map[string]*subscription), inbound: make(map[uint16]struct{})}
	b.sessions[clientID] = s
	return s
}

// enqueue adds a message to the queue, within the limits.
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

// dropHead removes the first message of the queue without sending it.
func (s *session) dropHead(counter *uint64) {
	e := s.queue.pop()
	if s.durable(&e) {
		s.b.log.dropped(s, 0)
	}
	*counter++
}

// dropExpired drops expired messages. It searches the queue only if a message may have expired.
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

// sift removes the messages for which keep returns false from the queue and from the
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

// complete ends the exchange of a message.
func (s *session) complete(f *flight) {
	s.flights.remove(f, s.conn)
	if s.durable(&f.entry) {
		s.b.log.completed(s, f.id)
	}
	s.b.mark(s.conn)
}

// detach separates a session from its connection. If send is false, it discards the will. This is
// the case if the client has sent DISCONNECT 0x00. detach ends a session that must end with its
// connection.
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

// await starts the timers for the will and for the end of a session. The connection of the session
// ended at lostAt.
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

// endSession ends a session that has no connection. It publishes the will [MQTT-3.1.2-8]. It gives
// the unfinished messages of Shared Subscriptions to other members of the group.
func (b *Broker) endSession(s *session) {
	b.forget(s)
	b.publishWill(s)
	for f := s.flights.first; f != nil; f = f.next {
		// A QoS 2 message that was sent must not go to another member [MQTT-4.8.2-5].
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

// forget removes a session from the tables of the broker.
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

// leave separates the connection from its session.
func (c *conn) leave(sendWill bool) {
	if s := c.session; s != nil && s.conn == c && !c.b.closed {
		c.b.detach(s, sendWill)
	}
}
