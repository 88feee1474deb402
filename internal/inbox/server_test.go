package inbox_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// server is the server's side of a session. It sends messages in order, as far as its window
// allows. On a new connection it resends the unacknowledged messages. It checks each
// acknowledgement.
type server struct {
	r      *rig
	window int
	// mayAck returns an error if a message must not be acknowledged.
	mayAck func(m *message, reason byte) error

	mu    sync.Mutex
	queue []*outbound // in order of sending, without finished messages
	last  uint16      // packet identifier
	acks  []string
	conn  *conn
	ends  []error // causes of ended connections
}

// outbound is a message that the server has not finished.
type outbound struct {
	m        *message
	id       uint16
	sent     bool // on any connection
	onConn   *conn
	acked    bool // PUBREC was received; PUBREL must be sent and answered
	released bool
}

// conn is one connection. Its goroutine is the reader.
type conn struct {
	s      *server
	gen    *session.Generation
	wake   notify.Signal
	closed notify.Latch
	read   sync.WaitGroup
	err    error
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed.Done():
		return true
	default:
		return false
	}
}

// connect starts a connection. The session is resumed if there was an earlier connection.
func (s *server) connect() {
	s.disconnect()
	c := &conn{s: s, wake: notify.New()}
	s.mu.Lock()
	s.conn = c
	present := s.last > 0
	for _, o := range s.queue {
		o.released = false
	}
	s.mu.Unlock()
	s.r.session.Begin(present)
	c.gen = s.r.session.Attach(c, session.Limits{})
	c.read.Go(c.run)
	c.wake.Set()
}

func (s *server) disconnect() {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c == nil {
		return
	}
	c.closed.Set()
	c.read.Wait()
	s.r.session.Detach(c.gen)
	s.mu.Lock()
	s.ends = append(s.ends, c.err)
	s.mu.Unlock()
}

func (s *server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.wake.Set()
	}
}

// run reads the packets that the server sends.
func (c *conn) run() {
	for {
		select {
		case <-c.closed.Done():
			return
		case <-c.wake:
		}
		for !c.isClosed() {
			deliver := c.next()
			if deliver == nil {
				break
			}
			if err := deliver(); err != nil {
				c.Fail(err)
			}
		}
	}
}

// next returns the delivery of the next packet, or nil.
func (c *conn) next() func() error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	inFlight := 0
	for i, o := range s.queue {
		if o.m.QoS > 0 {
			inFlight++
		}
		if inFlight > s.window {
			return nil
		}
		switch {
		case o.acked && !o.released:
			o.released = true
			return func() error { return c.gen.HandleAck(wire.Ack{Type: wire.PUBREL, PacketID: o.id}) }
		case o.acked || o.onConn == c:
			continue
		case o.m.QoS == 0:
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
		case o.id == 0:
			s.last++
			o.id = s.last
		}
		p := wire.Publish{Topic: o.m.Topic, QoS: o.m.QoS, PacketID: o.id, Dup: o.sent, Payload: fmt.Append(nil, o.m.Number)}
		o.onConn, o.sent = c, o.m.QoS > 0
		return func() error { return c.gen.HandlePublish(view(p)) }
	}
	return nil
}

func view(p wire.Publish) wire.PublishView {
	raw := wire.AppendPublish(nil, &p)
	_, n := wire.Varint(raw[1:])
	v, err := wire.ParsePublish(wire.Frame{Header: raw[0], Body: raw[1+n:], Raw: raw})
	if err != nil {
		panic(err)
	}
	return v
}

// Send receives acknowledgements.
func (c *conn) Send(encode func(dst []byte) []byte) error {
	for b := encode(nil); len(b) > 0; {
		length, n := wire.Varint(b[1:])
		raw := b[:1+n+int(length)]
		b = b[len(raw):]
		a, err := wire.ParseAck(wire.Frame{Header: raw[0], Body: raw[1+n:], Raw: raw})
		if err != nil {
			panic(err)
		}
		c.take(a)
	}
	c.wake.Set()
	return nil
}

func (c *conn) take(a wire.Ack) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.isClosed() {
		return // it is lost
	}
	for i, o := range s.queue {
		final := a.Type == wire.PUBCOMP || a.Reason >= 0x80 || a.Type == wire.PUBACK
		switch {
		case o.id != a.PacketID:
			if a.Type != wire.PUBCOMP && o.onConn == c && !o.acked {
				s.r.t.Errorf("%v %d left before the acknowledgement of %d, which was received earlier", a.Type, a.PacketID, o.id)
			}
			continue
		case (o.m.QoS == 2) != (a.Type == wire.PUBREC || a.Type == wire.PUBCOMP):
			s.r.t.Errorf("%v for a message of QoS %d", a.Type, o.m.QoS)
		case a.Type != wire.PUBCOMP && o.acked:
			s.r.t.Errorf("message %d is acknowledged twice", o.m.Number)
		case a.Type != wire.PUBCOMP && s.mayAck != nil:
			if err := s.mayAck(o.m, a.Reason); err != nil {
				s.r.t.Errorf("message %d is acknowledged: %v", o.m.Number, err)
			}
		}
		o.acked = true
		if a.Type != wire.PUBCOMP {
			text := fmt.Sprint(o.m.Number)
			if a.Reason != 0 {
				text += fmt.Sprintf(" 0x%02X %s", a.Reason, a.ReasonString)
			}
			s.acks = append(s.acks, text)
		}
		if final {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
		}
		return
	}
	s.r.t.Errorf("%v %d acknowledges nothing", a.Type, a.PacketID)
}

// unacked returns the number of messages that the server still has.
func (s *server) unacked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// Fail closes the connection, as link.Conn does.
func (c *conn) Fail(err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.closed.Set() {
		c.err = err
	}
}

// Stall blocks the reader, as link.Conn does.
func (c *conn) Stall(limit time.Duration, wake <-chan struct{}, ready func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for !ready() {
		select {
		case <-wake:
		case <-timer.C:
			return false
		case <-c.closed.Done():
			return false
		}
	}
	return true
}
