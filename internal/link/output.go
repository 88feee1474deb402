package link

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

const (
	// outputLimit is how many bytes wait for the present write to end. A writer waits while there are more.
	outputLimit = 64 << 10
	// maxSpare is the largest buffer that is kept for the next write.
	maxSpare = 4 * outputLimit
	// quiet is how long ago the last write ended when Post lets its message leave before it returns.
	quiet = 100 * time.Microsecond
)

// output is what a Conn has to write. At most one goroutine writes at a time, without mu. What others
// append meanwhile is written by it, or by flush, in one system call. While nobody writes, out is
// empty. See ADR 0080.
type output struct {
	mu      sync.Mutex
	out     []byte
	spare   []byte // an empty buffer for the next write
	packet  int    // where in out the packet begins that paho is writing
	posted  int    // messages of Post in out
	unsent  int    // messages of Post that were not written when the connection broke
	writing bool
	closing bool // a DISCONNECT follows what is in out: nothing else is appended
	broken  error

	idle     sync.Cond     // nobody writes any more
	room     notify.Signal // for waiters: out has been taken, or closing or broken has changed
	waiters  int
	flusher  func() // flush, allocated once
	flushing sync.WaitGroup
}

// Send appends packets to the output and writes it, unless another goroutine writes now: that one then
// writes it too. It blocks at most for the write timeout.
func (c *Conn) Send(encode func(dst []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.waitLocked(context.Background()); err != nil {
		return err
	}
	c.out = encode(c.out)
	return c.sendLocked()
}

// Post appends one message to the output and returns without waiting for the write. After an error it
// is not appended. While the output is full, Post waits; ctx ends that.
func (c *Conn) Post(ctx context.Context, encode func(dst []byte) []byte) error {
	c.mu.Lock()
	if err := c.waitLocked(ctx); err != nil {
		c.mu.Unlock()
		return err
	}
	c.out = encode(c.out)
	c.posted++
	began := !c.writing
	if began {
		c.flushLater()
	}
	c.mu.Unlock()
	if began && time.Duration(c.now()-c.lastWrite.Load()) > quiet {
		runtime.Gosched() // flush runs now, and not when another processor finds it
	}
	return nil
}

// Unsent returns how many messages of Post were not written, or perhaps in part, on a connection that has
// ended.
func (c *Conn) Unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsent
}

// waitLocked waits until the output takes more.
func (c *Conn) waitLocked(ctx context.Context) error {
	if c.broken == nil && !c.fullLocked() {
		return nil
	}
	c.waiters++
	defer func() {
		if c.waiters--; c.waiters > 0 {
			c.room.Set()
		}
	}()
	for c.broken == nil && c.fullLocked() {
		c.mu.Unlock()
		select {
		case <-c.room:
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			return context.Cause(ctx)
		}
	}
	return c.broken
}

func (c *Conn) fullLocked() bool { return c.closing || c.writing && len(c.out) >= outputLimit }

// sendLocked writes the output, unless another goroutine does.
func (c *Conn) sendLocked() error {
	if c.writing {
		return nil
	}
	c.writing = true
	err := c.writeLocked()
	if c.broken == nil && len(c.out) > 0 {
		c.flushLater()
	} else {
		c.writtenLocked()
	}
	return err
}

// flushLater starts flush.
func (c *Conn) flushLater() {
	c.writing = true
	c.flushing.Add(1)
	go c.flusher()
}

// flush writes until nothing is left.
func (c *Conn) flush() {
	defer c.flushing.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.broken == nil && len(c.out) > 0 {
		_ = c.writeLocked() // it stays in broken
	}
	c.writtenLocked()
}

// endOutput takes no more packets, and returns when nothing writes any more.
func (c *Conn) endOutput() {
	c.mu.Lock()
	if c.broken == nil {
		c.broken = net.ErrClosed
	}
	c.idle.Broadcast()
	c.wakeLocked()
	c.mu.Unlock()
	c.flushing.Wait()
}

// writtenLocked is the end of writing.
func (c *Conn) writtenLocked() {
	c.writing = false
	c.unsent += c.posted
	c.posted = 0
	c.idle.Broadcast()
	c.wakeLocked()
}

func (c *Conn) wakeLocked() {
	if c.waiters > 0 {
		c.room.Set()
	}
}

// writeLocked writes what is in the output now.
func (c *Conn) writeLocked() error {
	batch, posted := c.out, c.posted
	c.out, c.spare, c.posted = c.spare, nil, 0
	c.wakeLocked()
	err := c.transmit(batch)
	if cap(batch) <= maxSpare {
		c.spare = batch[:0]
	}
	if err != nil {
		c.unsent += posted
	}
	switch {
	case c.broken != nil: // paho has written a packet that is too large
		return c.broken
	case err != nil:
		return c.writeFailedLocked(fmt.Errorf("write to server: %w", err))
	}
	c.lastWrite.Store(c.now())
	return nil
}

// transmit writes a batch, without mu.
func (c *Conn) transmit(batch []byte) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(batch)
	return err
}

// Lock, Write and Unlock are how paho writes a packet: as a sync.Locker, the Conn
// keeps the parts of the packet together.
func (c *Conn) Lock() {
	c.mu.Lock()
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
// connection instead [MQTT-3.2.2-15]. No packet follows a DISCONNECT [MQTT-3.14.4-1], and
// Unlock returns when it is written.
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
		_ = c.sendLocked()
		return
	}
	for c.closing = true; c.writing && c.broken == nil; {
		c.idle.Wait()
	}
	if c.broken == nil && (len(c.out) == 0 || c.sendLocked() == nil) {
		c.broken = net.ErrClosed
		c.wakeLocked()
	}
}
