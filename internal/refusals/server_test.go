package refusals

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// messages is the number of messages in each case: at QoS 1 and 2 alternately, on topics topics.
const (
	messages = 500
	topics   = 5
)

// when defines how long a server refuses.
type when int

const (
	always when = iota
	twoSeconds
	once
)

var whens = []when{always, twoSeconds, once}

// now reports whether the server refuses. It has already refused n times, first at began.
func (w when) now(began time.Time, n int) bool {
	switch w {
	case twoSeconds:
		return n == 0 || time.Since(began) < 2*time.Second
	case once:
		return n == 0
	}
	return true
}

// silent means that a connection ends without a DISCONNECT.
const silent = 0xFE

// server is a scripted server that keeps the session. Its functions run on its goroutine.
type server struct {
	*fakebroker.Broker
	connack    func() byte                                // returns the reason code of the next CONNACK; nil: 0
	disconnect func(completed int) *control.Disconnect    // called after each PUBACK and PUBCOMP; may be nil
	puback     func(topic string, qos byte) (reason byte) // returns the reason code of PUBACK or PUBREC; nil: 0
	end        func(topic string) *control.Disconnect     // ends the connection on a PUBLISH if not nil; reason 0xFE: without DISCONNECT
	conn       *fakebroker.Conn
	connected  bool            // a connection was accepted
	held       map[uint16]bool // packet identifiers of received QoS 2 messages, until PUBREL

	mu       sync.Mutex
	attempts int            // number of CONNECT packets
	accepted map[string]int // by payload
}

func newServer(t *testing.T) *server {
	return &server{Broker: fakebroker.New(t), accepted: map[string]int{}, held: map[uint16]bool{}}
}

// run serves the connections one at a time until the test ends.
func (s *server) run() {
	for {
		conn, ok := s.Take()
		if !ok {
			return
		}
		s.conn = conn
		for completed := 0; ; {
			var p wire.Frame
			if p, ok = conn.Packet(); !ok || !s.take(p, &completed) {
				break
			}
		}
		for ok { // after a DISCONNECT the client closes the connection
			_, ok = conn.Packet()
		}
		conn.Close()
	}
}

// take answers one packet. It returns false at the end of the connection.
func (s *server) take(p wire.Frame, completed *int) bool {
	switch p.Type() {
	case wire.CONNECT:
		return s.takeConnect(p)
	case wire.PUBLISH:
		v, err := wire.ParsePublish(p)
		if err != nil {
			panic(err)
		}
		if s.end != nil {
			if d := s.end(string(v.Topic)); d != nil {
				if d.Reason == silent {
					s.conn.Close()
				} else {
					s.conn.Disconnect(*d)
				}
				return false
			}
		}
		reason := byte(0)
		if s.puback != nil {
			reason = s.puback(string(v.Topic), v.QoS)
		}
		if reason < 0x80 && !s.held[v.PacketID] {
			s.mu.Lock()
			s.accepted[string(v.Payload)]++
			s.mu.Unlock()
		}
		if v.QoS == 2 {
			if reason < 0x80 {
				s.held[v.PacketID] = true
			}
			s.conn.Ack(wire.PUBREC, v.PacketID, reason)
		} else {
			s.conn.Ack(wire.PUBACK, v.PacketID, reason)
			return s.completed(completed)
		}
	case wire.PUBREL:
		a, err := wire.ParseAck(p)
		if err != nil {
			panic(err)
		}
		delete(s.held, a.PacketID)
		s.conn.Ack(wire.PUBCOMP, a.PacketID, 0)
		return s.completed(completed)
	case wire.PINGREQ:
		s.conn.Pingresp()
	case wire.DISCONNECT:
		return false
	}
	return true
}

// completed counts a message. If the connection must end, it ends the connection and returns false.
func (s *server) completed(n *int) bool {
	*n++
	if s.disconnect == nil {
		return true
	}
	d := s.disconnect(*n)
	if d != nil {
		s.conn.Disconnect(*d)
	}
	return d == nil
}

func (s *server) takeConnect(p wire.Frame) bool {
	c, err := control.ParseConnect(p)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.attempts++
	s.mu.Unlock()
	reason := byte(0)
	if s.connack != nil {
		reason = s.connack()
	}
	ack := control.Connack{Reason: reason}
	if reason == 0 {
		ack.SessionPresent = s.connected && !c.CleanStart
		if s.connected = true; c.CleanStart {
			clear(s.held)
		}
	}
	s.conn.Connack(ack)
	return reason == 0
}

// middle is the default backoff without randomness.
var middle = reliability.Backoff{Rand: func() float64 { return 0.5 }}

// newClient returns a client of s with the default configuration, except that the jitter is fixed.
func (s *server) newClient(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Logger: slog.New(slog.DiscardHandler),
		Connection: client.ConnectionConfig{Dial: s.Dial, Backoff: middle},
		Publishing: client.PublishingConfig{RetryBackoff: middle}})
	if err != nil {
		t.Fatal(err)
	}
	go s.run()
	return c
}

func publishAll(t *testing.T, c *client.Client) (all []*client.Delivery) {
	t.Helper()
	for n := range messages {
		m := client.Message{Topic: fmt.Sprint("t/", n%topics), Payload: fmt.Append(nil, n), QoS: client.QoS(1 + n%2)}
		d, err := c.Publish(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}
