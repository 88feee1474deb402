package session

// Leave gives back a message that could not be taken in. It is not
// acknowledged, and is handled when it comes again, on the next connection
// [MQTT-4.4.0-1]. It must be called from within Config.Deliver, in place of
// Complete. Messages that come behind it on the same connection must be left
// too, or they would be handled before it.
func (s *Session) Leave(in *Inbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.counted {
		s.handling--
	}
	if s.inbound[in.id] == in {
		delete(s.inbound, in.id)
	}
}

// WriterOf is the connection that a message came on, last.
func (s *Session) WriterOf(in *Inbound) Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return in.g.w
}

// EndAfterAcks ends a connection, for this reason, when the acknowledgements
// that are queued have left. What they are for would come again otherwise.
func (s *Session) EndAfterAcks(w Writer, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && s.cur.w == w {
		s.acks.push(queued{g: s.cur, end: reason})
	}
}
