package session

// Behind returns the number of messages whose acknowledgements wait for the one of in.
func (s *Session) Behind(in *Inbound) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.g != s.cur {
		return 0
	}
	return int(in.g.enqueued - in.index)
}

// Unacknowledged returns the number of unacknowledged messages of the connection.
func (s *Session) Unacknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil {
		return 0
	}
	return len(s.cur.order)
}

// Oldest returns the first unacknowledged message. full reports whether the Receive Maximum
// prevents the server from sending further messages.
func (s *Session) Oldest() (in *Inbound, full, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur == nil || len(s.cur.order) == 0 {
		return nil, false, false
	}
	return s.cur.order[0], s.cur.recv.len() >= int(s.cfg.ReceiveMaximum), true
}
