package mqtttest

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// conn is one Network Connection. Its reader goroutine handles packets, and its writer goroutine
// sends them. finish flushes and then ends the connection with DISCONNECT. cut ends it at once.
type conn struct {
	b   *Broker
	nc  net.Conn
	raw net.Conn // connection below TLS or WebSocket; Close ends it abruptly

	// set before CONNACK, then constant
	clientID   string // also set if the CONNACK refuses the client
	receiveMax int    // of the client
	maxPacket  uint32 // of the client
	keepAlive  time.Duration
	v311       bool // the client speaks MQTT 3.1.1

	// used by the reader only
	aliases map[uint16]string
	packets bool // a packet was received since the deadline was set

	// guarded by Broker.state
	session  *session
	out      []byte
	late     []byte              // delayed packets that are due
	closing  bool                // the writer sends out and nothing after it
	severed  bool                // a hook of the writer has cut the connection, so only earlier packets are sent
	dirty    bool                // in Broker.dirty
	open     map[uint16]struct{} // QoS 2 messages of this connection that wait for PUBREL
	unsaid   int                 // PUBACKs that are not yet written
	draining atomic.Bool         // the reader only waits for the client to close the connection

	hooks [2]hookCalls // of the reader (ToServer) and of the writer (ToClient)

	wakeup     chan struct{} // wakes the writer: out is not empty, or messages wait
	room       chan struct{} // wakes the reader: out is empty
	readerDone chan struct{}
	writerDone chan struct{}
}

const (
	// outFill is the number of bytes that the writer collects before it writes.
	outFill = 64 << 10
	// outLimit is the number of unwritten bytes at which the reader stops reading. A client that
	// does not read its acknowledgements reaches this limit.
	outLimit = 256 << 10
	// linger is how long the broker waits for the client to close the connection, after it has sent
	// its last packet. If the broker closed a socket with unread bytes earlier, the reset could
	// discard that packet.
	linger = 500 * time.Millisecond
	// spareConns is the number of additional connections above Options.MaxConnections. They are for
	// connections that have not sent CONNECT yet, and for connections that are ending.
	spareConns = 64
)

// Reason codes that only a server sends.
const (
	reasonServerShuttingDown byte = 0x8B
	reasonClientIDInvalid    byte = 0x85
	reasonBadUserOrPassword  byte = 0x86
	reasonBadAuthMethod      byte = 0x8C
	reasonTopicFilterInvalid byte = 0x8F
	reasonNoSubscription     byte = 0x11
)

var (
	errOver    = errors.New("mqtttest: the connection has ended")
	errGoodbye = errors.New("mqtttest: the client sent DISCONNECT")
)

// finish queues a DISCONNECT, if MQTT allows one at this time. The writer then flushes and closes
// the connection.
func (c *conn) finish(reason byte, detail string) {
	if c.closing {
		return
	}
	c.closing = true
	c.b.mark(c)
	c.hooks[ToServer].cancel()
	if c.session == nil {
		return // no DISCONNECT before CONNACK
	}
	start := len(c.out)
	c.out = control.AppendDisconnect(c.out, &control.Disconnect{Reason: reason, ReasonString: detail})
	if len(c.out)-start > int(c.maxPacket) {
		c.out = control.AppendDisconnect(c.out[:start], &control.Disconnect{Reason: reason})
	}
}

// cut ends the connection without DISCONNECT. If a hook of this connection calls cut, the
// connection ends after all earlier packets, and before the packet for which the hook was called.
// If cut is called elsewhere, the connection ends at once.
func (c *conn) cut() {
	c.closing = true
	c.b.mark(c)
	switch {
	case c.hooks[ToServer].inside(): // the writer sends the answers to earlier packets
	case c.hooks[ToClient].inside():
		c.severed, c.out = true, nil
	default:
		c.out = nil
		_ = c.raw.Close() // the connection ends even if this fails
	}
	c.hooks[ToServer].cancel()
	c.hooks[ToClient].cancel()
}

func refusal(t wire.Type, code byte, format string, args ...any) error {
	return &wire.Error{Code: code, Packet: t, Detail: fmt.Sprintf(format, args...)}
}

// do runs one event under the lock, unless the connection has ended. It then waits as long as the
// client has left too many answers unread.
func (c *conn) do(event func(*session) error) error {
	b := c.b
	b.lock()
	if c.closing || c.session.conn != c {
		b.unlock()
		return errOver
	}
	err := event(c.session)
	b.mark(c)
	full := len(c.out) > outLimit
	b.unlock()
	if !full || err != nil {
		return err
	}
	return c.awaitRoom()
}

func (c *conn) awaitRoom() error {
	for {
		c.b.wake()
		select {
		case <-c.room:
		case <-c.writerDone:
			return errOver
		}
		c.b.lock()
		full := len(c.out) > outLimit
		c.b.unlock()
		if !full {
			return nil
		}
	}
}
