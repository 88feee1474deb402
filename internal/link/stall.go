package link

import (
	"net"
	"time"
)

// readAhead bounds what is read while the reader is stalled. Reading on detects
// that the server has closed the connection, unless more than this precedes it.
const readAhead = 4 << 10

// Stall stops reading until ready returns true, for limit at most, and reports whether
// it did. ready is called at once and whenever wake is signalled. Meanwhile backpressure
// holds the server's packets back, and keep alive expects no answer. Stall must be called
// on the reader's goroutine, as from session.Config.Deliver. The end of the connection
// ends the stall; if the server closes it, unless more than readAhead precedes that.
func (c *Conn) Stall(limit time.Duration, wake <-chan struct{}, ready func() bool) bool {
	if ready() {
		return true
	}
	began := c.now()
	c.stallBegan.Store(began)
	c.stalled.Store(true)
	defer func() {
		now := c.now()
		c.lastRead.Store(now) // an answer may have arrived unread
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

// stallTime is how long the reader has stalled in total.
func (c *Conn) stallTime() time.Duration {
	sum := c.stallSum.Load()
	if c.stalled.Load() {
		sum += c.now() - c.stallBegan.Load()
	}
	return time.Duration(sum)
}

// ahead is what was read during a Stall. The reader owns it.
type ahead struct {
	chunk
	pending chan chunk // nil: nothing is being read
}

type chunk struct {
	data []byte
	err  error
}

// begin starts a read, unless one is under way or there are enough bytes.
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

// read reads what was read ahead, and then from the connection.
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
