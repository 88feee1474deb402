package mqtttest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// conn is one Network Connection: a reader, which acts on packets as they
// come, and a writer. It ends in one of two ways: finish says DISCONNECT,
// flushes and closes, cut closes.
type conn struct {
	b   *Broker
	nc  net.Conn
	raw net.Conn // what is under TLS or WebSocket; closing it is abrupt

	// set before CONNACK, then fixed
	clientID   string
	receiveMax int    // the client's
	maxPacket  uint32 // the client's
	keepAlive  time.Duration
	v311       bool // the client speaks MQTT 3.1.1

	// the reader's own
	aliases map[uint16]string
	packets bool // something has come since the deadline was set

	// guarded by Broker.state
	session  *session
	out      []byte
	closing  bool                // out is the last that will be written
	dirty    bool                // in Broker.dirty
	open     map[uint16]struct{} // QoS 2 messages of this connection that await PUBREL
	unsaid   int                 // PUBACKs that are still in out
	draining atomic.Bool         // the reader only waits for the other side to close

	wakeup     chan struct{} // for the writer: there is something in out, or to fill it with
	room       chan struct{} // for the reader: out is empty again
	readerDone chan struct{}
	writerDone chan struct{}
}

const (
	// outFill is how much the writer collects before it writes.
	outFill = 64 << 10
	// outLimit is what may wait to be written before the reader stops taking
	// packets in: acknowledgements for a client that does not read.
	outLimit = 256 << 10
	// linger is how long the other side has to close after our last word. To
	// close earlier, with bytes unread, would take that word back.
	linger = 500 * time.Millisecond
	// spareConns is how many connections there may be above
	// Options.MaxConnections, before CONNECT and on their way out.
	spareConns = 64
)

// reason codes that only a server has use for.
const (
	reasonServerShuttingDown byte = 0x8B
	reasonClientIDInvalid    byte = 0x85
	reasonBadUserOrPassword  byte = 0x86
	reasonBadAuthMethod      byte = 0x8C
	reasonTopicFilterInvalid byte = 0x8F
	reasonNoSubscription     byte = 0x11
)

func (b *Broker) serve(nc, raw net.Conn) {
	c := &conn{b: b, nc: nc, raw: raw, receiveMax: 65535, maxPacket: wire.MaxPacketSize,
		aliases: make(map[uint16]string), open: make(map[uint16]struct{}),
		wakeup: make(chan struct{}, 1), room: make(chan struct{}, 1),
		readerDone: make(chan struct{}), writerDone: make(chan struct{})}
	b.lock()
	defer b.unlock()
	if b.closed || len(b.conns) >= b.opts.MaxConnections+spareConns {
		_ = raw.Close() // the caller sees the end of it
		return
	}
	b.conns[c] = struct{}{}
	b.wg.Go(c.write)
	b.wg.Go(c.read)
}

// read takes packets in until the connection ends, and then says how it ended.
func (c *conn) read() {
	defer close(c.readerDone)
	_ = c.nc.SetReadDeadline(time.Now().Add(c.b.opts.ConnectTimeout)) // an error shows in the Read
	r := wire.NewReader((*source)(c), c.b.opts.MaximumPacketSize)
	f, err := r.Next()
	if err == nil {
		c.watch(ToServer, f.Raw)
		err = c.connect(f)
	}
	for err == nil {
		if f, err = r.Next(); err == nil {
			c.packets = true
			c.watch(ToServer, f.Raw)
			if c.v311 {
				f, err = upgrade(f)
			}
		}
		if err == nil {
			err = c.handle(f)
		}
	}
	c.end(err)
	if <-c.writerDone; c.draining.Load() {
		_, _ = io.Copy(io.Discard, c.nc) // until the other side closes, or linger is over
	}
}

var (
	errOver    = errors.New("mqtttest: the connection is over")
	errGoodbye = errors.New("mqtttest: the client said goodbye")
)

// end acts on the reason why the reader stops.
func (c *conn) end(err error) {
	b := c.b
	b.lock()
	defer b.wake()
	defer b.unlock()
	var violation *wire.Error
	switch {
	case errors.As(err, &violation):
		b.stats.ProtocolErrors++
		b.opts.Logger.Info("protocol error", "client", c.clientID, "error", err)
		if c.session != nil {
			c.finish(violation.Code, violation.Detail)
		} else if violation.Packet == wire.CONNECT {
			c.connackOnly(violation.Code, violation.Detail)
		}
	case errors.Is(err, os.ErrDeadlineExceeded) && c.session != nil:
		c.finish(wire.ReasonKeepAliveTimeout, "nothing came for 1.5 times the Keep Alive")
	}
	c.leave(true)
	if !c.closing {
		c.closing = true
		b.mark(c)
	}
}

// leave parts the connection from its session.
func (c *conn) leave(sendWill bool) {
	if s := c.session; s != nil && s.conn == c && !c.b.closed {
		c.b.detach(s, sendWill)
	}
}

// finish says DISCONNECT, if it can, and lets the writer flush and close.
func (c *conn) finish(reason byte, detail string) {
	if c.closing {
		return
	}
	c.closing = true
	c.b.mark(c)
	if c.session == nil {
		return // no DISCONNECT before CONNACK
	}
	start := len(c.out)
	c.out = control.AppendDisconnect(c.out, &control.Disconnect{Reason: reason, ReasonString: detail})
	if len(c.out)-start > int(c.maxPacket) {
		c.out = control.AppendDisconnect(c.out[:start], &control.Disconnect{Reason: reason})
	}
}

// cut ends the connection without a word.
func (c *conn) cut() {
	c.closing, c.out = true, nil
	c.b.mark(c)
	_ = c.raw.Close() // it ends either way
}

// source is the reader's view of the connection: before it waits, it wakes
// the writers and sets the keep alive's deadline.
type source conn

func (s *source) Read(p []byte) (int, error) {
	c := (*conn)(s)
	c.b.wake()
	if c.packets {
		c.packets = false
		if c.keepAlive > 0 {
			_ = c.nc.SetReadDeadline(time.Now().Add(c.keepAlive)) // an error shows in the Read
		}
		if c.draining.Load() {
			_ = c.nc.SetReadDeadline(time.Now().Add(linger)) // as above
		}
	}
	return c.nc.Read(p)
}

// watch shows whole packets to the hook.
func (c *conn) watch(dir Direction, b []byte) {
	hook := c.b.opts.OnPacket
	if hook == nil {
		return
	}
	for len(b) > 0 {
		length, n := wire.Varint(b[1:])
		size := 1 + n + int(length)
		hook(dir, c.clientID, b[:size:size])
		b = b[size:]
	}
}
