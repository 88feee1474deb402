package link

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

const (
	// closeTimeout bounds the time for the client's final DISCONNECT, and for closing TLS.
	closeTimeout = 250 * time.Millisecond
	// sizeTolerance is the number of bytes by which a received packet may exceed the Maximum Packet
	// Size. mosquitto 2.0 computes sizes without the first byte. If the client refused such a
	// packet, the server would redeliver it on every connection. See ADR 0030.
	sizeTolerance = 1
)

// Conn is one connection to the server. It is paho's net.Conn and the session's Writer. Only paho's
// reading goroutine reads. Writing is safe for concurrent use. A Conn fails once: the first error
// becomes its cause and closes it.
type Conn struct {
	net.Conn
	writeTimeout time.Duration
	reader       *wire.Reader
	control      []byte                             // remaining bytes of a control packet that paho is reading
	gen          atomic.Pointer[session.Generation] // nil before CONNACK
	will         []byte                             // Will Properties for CONNECT; nil: no will
	maxSend      atomic.Uint32                      // the server's Maximum Packet Size; 0: no limit
	start        time.Time
	auth         *authentication // nil: CONNECT named no Authentication Method
	guard        *callback.Guard // may be nil

	ahead      *ahead       // used by the reader only; nil: nothing was read ahead
	stalled    atomic.Bool  // the reader waits in Stall
	stallBegan atomic.Int64 // when the present stall began, since start
	stallSum   atomic.Int64 // total duration of ended stalls

	output

	writeFailed atomic.Pointer[error] // a write has failed; the reader may still find the reason

	// Times since start of the last successful read, the last flush, and the read that contained
	// the last acknowledgement of a message.
	lastRead, lastWrite, lastAck atomic.Int64
	probes                       notify.Signal // set when a PINGREQ must be sent now

	causeOnce sync.Once
	cause     error
	failed    chan struct{}
}

func newConn(inner net.Conn, maxReceive uint32, writeTimeout time.Duration) *Conn {
	c := &Conn{Conn: fastCloser{inner}, writeTimeout: writeTimeout, start: time.Now(), failed: make(chan struct{}), probes: notify.New()}
	if maxReceive > 0 && maxReceive <= wire.MaxPacketSize { // otherwise no packet exceeds the limit
		maxReceive += sizeTolerance
	}
	c.reader = wire.NewReader(source{c}, maxReceive)
	c.room, c.idle.L, c.flusher = notify.New(), &c.mu, c.flush
	return c
}

// now returns the time since start, by the monotonic clock.
func (c *Conn) now() int64 { return int64(time.Since(c.start)) }

// LastReceived returns the time when bytes last arrived from the server.
func (c *Conn) LastReceived() time.Time { return c.start.Add(time.Duration(c.lastRead.Load())) }

// source makes the Conn the byte source of the frame reader.
type source struct{ *Conn }

func (s source) Read(p []byte) (int, error) {
	n, err := s.read(p)
	if n > 0 {
		s.lastRead.Store(s.now())
	}
	return n, err
}

// Read returns the next bytes of control packets to paho. Before that, it handles the packets of
// messages and their acknowledgements that precede them.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.control) == 0 && c.guard != nil {
		defer c.guard.Enter()() // handling message packets may call the application
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
		return wire.Violation(t, "a server must not send it")
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

// writeFailedLocked breaks the connection after a failed write. If the server has closed the
// connection, an unread DISCONNECT may give the reason. The reader has closeTimeout to find it.
func (c *Conn) writeFailedLocked(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || c.gen.Load() == nil {
		return c.breakLocked(err)
	}
	c.broken, c.out = err, nil
	c.wakeLocked()
	c.writeFailed.Store(&err)
	time.AfterFunc(closeTimeout, func() {
		c.setCause(err)
		_ = c.Conn.Close()
	})
	return err
}

func (c *Conn) breakLocked(err error) error {
	c.broken, c.out = err, nil
	c.wakeLocked()
	c.setCause(err)
	_ = c.Conn.Close()
	return err
}

// Fail closes the connection because of err. It first sends a DISCONNECT if err is a violation by
// the server, a CloseError or an error with a reason code, unless a writer is stuck. Fail sets the
// cause after sending the DISCONNECT, because whoever waits for the cause closes the connection.
func (c *Conn) Fail(err error) {
	var violation *wire.Error
	var closing *CloseError
	coded, isCoded := err.(interface{ ReasonCode() byte })
	switch {
	case errors.As(err, &closing) || c.gen.Load() == nil:
	case isCoded:
		closing = &CloseError{Reason: coded.ReasonCode()}
	case errors.As(err, &violation):
		closing = &CloseError{Reason: violation.Code}
	}
	if closing != nil && c.lockIdle() {
		if c.broken == nil {
			if p := closing.packet(); c.checkSize(len(p)) == nil {
				_ = c.SetWriteDeadline(time.Now().Add(closeTimeout))
				_, _ = c.Conn.Write(p)
			}
			c.broken = err
			c.setCause(err) // before a writer sees broken and closes the connection
			c.wakeLocked()
		}
		c.mu.Unlock()
	}
	c.setCause(err)
	_ = c.Conn.Close()
}

// lockIdle locks mu while no goroutine writes, and prevents further output. It returns false if a
// writer takes longer than closeTimeout.
func (c *Conn) lockIdle() bool {
	for begin := time.Now(); time.Since(begin) <= closeTimeout; time.Sleep(time.Millisecond) {
		if !c.mu.TryLock() {
			continue
		}
		c.closing = true
		if !c.writing || c.broken != nil {
			return true
		}
		c.mu.Unlock()
	}
	return false
}

// Close closes the connection without a DISCONNECT.
func (c *Conn) Close() error {
	c.setCause(net.ErrClosed)
	return c.Conn.Close()
}

func (c *Conn) setCause(err error) {
	c.causeOnce.Do(func() {
		c.cause = err
		close(c.failed)
	})
}

// Failed returns a channel that is closed when the connection has ended.
func (c *Conn) Failed() <-chan struct{} { return c.failed }

// Cause returns the reason why the connection ended, or nil while it is up.
func (c *Conn) Cause() error {
	select {
	case <-c.failed:
		return c.cause
	default:
		return nil
	}
}
