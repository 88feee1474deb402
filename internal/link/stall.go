package link

import (
	"net"
	"time"
)

// readAhead bounds the number of bytes that are read during a stall. Reading detects that the
// server has closed the connection, unless more bytes precede the close.
const readAhead = 4 << 10

// Stall stops reading until ready returns true, at most for limit, and reports whether ready
// returned true. It calls ready at once and each time wake is signaled. During the stall,
// backpressure holds back the server's packets, and keep alive expects no answer. Stall must be
// called on the reader's goroutine, for example from session.Config.Deliver. The end of the
// connection ends the stall. If the server closes the connection, the stall ends only if at most
// readAhead bytes precede the close.
func (c *Conn) Stall(limit time.Duration, wake <-chan struct{}, ready func() bool) bool {
	if ready() {
		return true
	}
	began := c.now()
	c.stallBegan.Store(began)
	c.stalled.Store(true)
	defer func() {
		now := c.now()
		c.lastRead.Store(now) // an answer may have arrived without being read
		c.stallSum.Add(now - began)
		c.stalled.Store(false)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	if c.ahead == nil {
		c.ahead = &ahead{}
	}
	for {
		c.ahead.begin(c.Conn)
		select {
		case <-wake:
			if ready() {
				return true
			}
		case got := <-c.ahead.pending:
			if c.ahead.end(got); got.err != nil {
				return false
			}
		case <-c.failed:
			return false
		case <-timer.C:
			return false
		}
	}
}

// Stalled reports whether the reader waits in Stall.
func (c *Conn) Stalled() bool { return c.stalled.Load() }

// stallTime returns the total time that the reader has stalled.
func (c *Conn) stallTime() time.Duration {
	sum := c.stallSum.Load()
	if c.stalled.Load() {
		sum += c.now() - c.stallBegan.Load()
	}
	return time.Duration(sum)
}

// ahead holds the bytes read during a Stall. Only the reader uses it.
type ahead struct {
	chunk
	pending chan chunk // nil: nothing is being read
}

type chunk struct {
	data []byte
	err  error
}

// begin starts a read, unless one is running or enough bytes were read.
func (a *ahead) begin(from net.Conn) {
	if a.pending != nil || a.err != nil || len(a.data) >= readAhead {
		return
	}
	pending := make(chan chunk, 1)
	a.pending = pending
	go func(buf []byte) {
		n, err := from.Read(buf)
		pending <- chunk{buf[:n], err}
	}(make([]byte, readAhead-len(a.data)))
}

func (a *ahead) end(got chunk) { a.data, a.err, a.pending = append(a.data, got.data...), got.err, nil }

// read returns the bytes read ahead first, and then reads from the connection.
func (c *Conn) read(p []byte) (int, error) {
	a := c.ahead
	if a == nil {
		return c.Conn.Read(p)
	}
	if len(a.data) == 0 && a.pending != nil {
		a.end(<-a.pending)
	}
	if len(a.data) == 0 && a.err != nil {
		return 0, a.err
	}
	n := copy(p, a.data)
	if a.data = a.data[n:]; len(a.data) == 0 && a.pending == nil && a.err == nil {
		c.ahead = nil
	}
	return n, nil
}
