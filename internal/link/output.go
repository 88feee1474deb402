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
	// outputLimit is the maximum number of bytes that wait for the present write. Above it, writers
	// wait.
	outputLimit = 64 << 10
	// maxSpare is the maximum size of a buffer that is kept for the next write.
	maxSpare = 4 * outputLimit
	// quiet: if the last write ended longer ago, Post lets flush run before it returns.
	quiet = 100 * time.Microsecond
)

// output holds the bytes that a Conn has to write. At most one goroutine writes at a time, without
// holding mu. It, or flush, also writes in one system call what other goroutines append meanwhile.
// While no goroutine writes, out is empty. See ADR 0080.
type output struct {
	mu      sync.Mutex
	out     []byte
	spare   []byte // an empty buffer for the next write
	packet  int    // start in out of the packet that paho is writing
	posted  int    // number of messages of Post in out
	unsent  int    // messages of Post that were not written when the connection broke
	writing bool
	closing bool // a DISCONNECT follows the bytes in out; nothing else is appended
	broken  error

	idle     sync.Cond     // signaled when no goroutine writes
	room     notify.Signal // for waiters: out was taken, or closing or broken has changed
	waiters  int
	flusher  func() // the method flush, allocated once
	flushing sync.WaitGroup
}

// Send appends packets to the output and writes the output. If another goroutine is writing, that
// goroutine writes the packets. Send blocks at most for the write timeout.
func (c *Conn) Send(encode func(dst []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.waitLocked(context.Background()); err != nil {
		return err
	}
	c.out = encode(c.out)
	return c.sendLocked()
}

// Post appends one message to the output and returns without waiting for the write. If it returns
// an error, the message was not appended. While the output is full, Post waits until ctx ends.
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
		runtime.Gosched() // run flush now instead of waiting for another processor
	}
	return nil
}

// Unsent returns how many messages of Post were not completely written on a connection that has
// ended.
func (c *Conn) Unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsent
}

// waitLocked waits until the output has room.
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

// sendLocked writes the output, unless another goroutine is writing.
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

// flushLater starts flush on a goroutine.
func (c *Conn) flushLater() {
	c.writing = true
	c.flushing.Add(1)
	go c.flusher()
}

// flush writes until the output is empty.
func (c *Conn) flush() {
	defer c.flushing.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.broken == nil && len(c.out) > 0 {
		_ = c.writeLocked() // the error stays in broken
	}
	c.writtenLocked()
}

// endOutput refuses further packets and returns when no goroutine writes.
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

// writtenLocked is called when a goroutine stops writing.
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

// writeLocked writes the present content of the output.
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
	case c.broken != nil: // paho has written a packet that exceeds the server's limit
		return c.broken
	case err != nil:
		return c.writeFailedLocked(fmt.Errorf("write to server: %w", err))
	}
	c.lastWrite.Store(c.now())
	return nil
}

// transmit writes a batch without holding mu.
func (c *Conn) transmit(batch []byte) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return err
	}
	_, err := c.Conn.Write(batch)
	return err
}

// Lock begins a packet of paho. paho uses the Conn as a sync.Locker: it calls Lock, Write for each
// part of the packet, and Unlock. So the parts stay together.
func (c *Conn) Lock() {
	c.mu.Lock()
	c.packet = len(c.out)
}

// Write appends to the output. Unlock sends the packet.
func (c *Conn) Write(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// Unlock sends the packet. If the packet exceeds the server's limit, Unlock ends the connection
// instead [MQTT-3.2.2-15]. No packet follows a DISCONNECT [MQTT-3.14.4-1], and Unlock returns after
// the DISCONNECT was written.
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
	// The error stays in broken, and the reader ends.
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
