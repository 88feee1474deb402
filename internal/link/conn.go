package link

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

const (
	// flushAt is how many bytes of output are flushed even while more writers wait.
	flushAt = 64 << 10
	// closeTimeout bounds the final DISCONNECT of this client, and the end of TLS.
	closeTimeout = 250 * time.Millisecond
	// sizeTolerance is by how many bytes a received packet may exceed the Maximum Packet
	// Size. mosquitto 2.0 computes sizes without the first byte. Refused, such a packet
	// would be redelivered on every connection. See ADR 0030.
	sizeTolerance = 1
)

// Conn is one connection to the server: paho's net.Conn and the session's Writer.
// One goroutine reads, paho's; writing is safe for concurrent use. A Conn fails
// once: the first error is its cause and closes it.
type Conn struct {
	net.Conn
	writeTimeout time.Duration
	reader       *wire.Reader
	control      []byte                             // rest of a control packet that paho is reading
	gen          atomic.Pointer[session.Generation] // nil before CONNACK
	will         []byte                             // Will Properties for CONNECT; nil: no will
	maxSend      atomic.Uint32                      // the server's Maximum Packet Size, 0: none
	start        time.Time
	auth         *authentication // nil: CONNECT named no Authentication Method
	guard        *callback.Guard // nil: none

	ahead      *ahead       // owned by the reader; nil: nothing was read ahead
	stalled    atomic.Bool  // see Stall
	stallBegan atomic.Int64 // time since start
	stallSum   atomic.Int64 // of all stalls that have ended

	waiting atomic.Int32 // writers that wait for mu
	mu      sync.Mutex
	out     []byte
	packet  int // where in out the packet begins that paho is writing
	broken  error

	writeFailed atomic.Pointer[error] // a write has failed; the reader may still find out why

	// Times since start: of the last successful read and flush, and of the read that
	// brought the last acknowledgement of a message.
	lastRead, lastWrite, lastAck atomic.Int64
	probes                       notify.Signal // a PINGREQ is due now

	causeOnce sync.Once
	cause     error
	failed    chan struct{}
}

func newConn(inner net.Conn, maxReceive uint32, writeTimeout time.Duration) *Conn {
	c := &Conn{Conn: fastCloser{inner}, writeTimeout: writeTimeout, start: time.Now(), failed: make(chan struct{}), probes: notify.New()}
	if maxReceive > 0 && maxReceive <= wire.MaxPacketSize { // else no packet is larger
		maxReceive += sizeTolerance
	}
	c.reader = wire.NewReader(source{c}, maxReceive)
	return c
}

// now is the time since start, by the monotonic clock.
func (c *Conn) now() int64 { return int64(time.Since(c.start)) }

// LastReceived is when bytes last came from the server.
func (c *Conn) LastReceived() time.Time { return c.start.Add(time.Duration(c.lastRead.Load())) }

// source is the Conn as the frame reader's byte source.
type source struct{ *Conn }

func (s source) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if n > 0 {
		s.lastRead.Store(s.now())
	}
	return n, err
}

// Read returns the next bytes of control packets to paho. The packets of messages
// and their acknowledgements that come before them are handled here.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.control) == 0 && c.guard != nil {
		defer c.guard.Enter()() // handling data-plane packets may call the application
	}
	for len(c.control) == 0 {
		frame, err := c.reader.Next()
		if err == nil {
			err = c.dispatch(frame)
		} else if failed := c.writeFailed.Load(); failed != nil {
			err = *failed
		}
		if err != nil {
			c.Fail(err)
			return 0, err
		}
	}
	n := copy(p, c.control)
	c.control = c.control[n:]
	return n, nil
}

func (c *Conn) dispatch(f wire.Frame) error {
	if err := wire.CheckHeader(f.Header); err != nil {
		return err
	}
	t, gen := f.Type(), c.gen.Load()
	switch {
	case gen == nil && t != wire.CONNACK && t != wire.AUTH:
		return wire.Violation(t, "it came before CONNACK [MQTT-3.2.0-1]")
	case gen != nil && t == wire.CONNACK:
		return wire.Violation(t, "it came a second time [MQTT-3.2.0-2]")
	}
	switch t {
	case wire.PUBLISH:
		v, err := wire.ParsePublish(f)
		if err != nil {
			return err
		}
		return gen.HandlePublish(v)
	case wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP:
		a, err := wire.ParseAck(f)
		if err != nil {
			return err
		}
		before := gen.Settled()
		err = gen.HandleAck(a)
		if gen.Settled() != before {
			c.lastAck.Store(c.lastRead.Load())
		}
		return err
	case wire.CONNECT, wire.SUBSCRIBE, wire.UNSUBSCRIBE, wire.PINGREQ:
		return wire.Violation(t, "a server may not send it")
	case wire.AUTH:
		return c.handleAuth(f, gen == nil)
	case wire.DISCONNECT:
		d, err := parseDisconnect(f.Body)
		if err != nil {
			return err
		}
		c.setCause(d)
	default:
		err := checkControl(f)
		if err == nil && t == wire.CONNACK {
			err = c.checkMethod(f)
		}
		if err != nil {
			return err
		}
	}
	c.control = f.Raw
	return nil
}

// Send appends packets to the output and sends it, unless another writer waits,
// which then sends it. It blocks at most for the write timeout.
func (c *Conn) Send(encode func(dst []byte) []byte) error {
	c.lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	c.out = encode(c.out)
	return c.flushLocked()
}

func (c *Conn) lock() {
	c.waiting.Add(1)
	c.mu.Lock()
	c.waiting.Add(-1)
}

func (c *Conn) flushLocked() error {
	if c.waiting.Load() > 0 && len(c.out) < flushAt {
		return nil
	}
	return c.writeLocked()
}

func (c *Conn) writeLocked() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return c.breakLocked(err)
	}
	if _, err := c.Conn.Write(c.out); err != nil {
		return c.writeFailedLocked(fmt.Errorf("write to server: %w", err))
	}
	c.lastWrite.Store(c.now())
	if c.out = c.out[:0]; cap(c.out) > 4*flushAt {
		c.out = nil
	}
	return nil
}

// Lock, Write and Unlock are how paho writes a packet: as a sync.Locker, the Conn
// keeps the parts of the packet together.
func (c *Conn) Lock() {
	c.lock()
	c.packet = len(c.out)
}

// Write appends to the output; Unlock sends it.
func (c *Conn) Write(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// Unlock sends the packet. One that is larger than the server accepts ends the
// connection instead [MQTT-3.2.2-15]. No packet follows a DISCONNECT [MQTT-3.14.4-1], so
// it does not wait for other writers.
func (c *Conn) Unlock() {
	defer c.mu.Unlock()
	if c.broken != nil || len(c.out) == c.packet {
		return
	}
	t := wire.Type(c.out[c.packet] >> 4)
	if c.will != nil && t == wire.CONNECT {
		c.out = append(c.out[:c.packet], withWill(c.out[c.packet:], c.will)...)
	}
	if err := c.checkSize(len(c.out) - c.packet); err != nil {
		_ = c.breakLocked(err)
		return
	}
	// An error stays in broken, and the reader ends.
	if t != wire.DISCONNECT {
		_ = c.flushLocked()
	} else if c.writeLocked() == nil {
		c.broken = net.ErrClosed
	}
}
