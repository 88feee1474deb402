package mqtttest

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func (b *Broker) serve(nc, raw net.Conn) {
	c := &conn{b: b, nc: nc, raw: raw, receiveMax: 65535, maxPacket: wire.MaxPacketSize,
		aliases: make(map[uint16]string), open: make(map[uint16]struct{}),
		wakeup: make(chan struct{}, 1), room: make(chan struct{}, 1),
		readerDone: make(chan struct{}), writerDone: make(chan struct{})}
	for i := range c.hooks {
		c.hooks[i].ctx, c.hooks[i].cancel = context.WithCancel(b.ctx)
	}
	b.lock()
	defer b.unlock()
	if b.closed || len(b.conns) >= b.opts.MaxConnections+spareConns {
		_ = raw.Close() // the client sees that the connection ends
		c.hooks[ToServer].cancel()
		c.hooks[ToClient].cancel()
		return
	}
	b.conns[c] = struct{}{}
	b.wg.Go(c.write)
	b.wg.Go(c.read)
}

// read processes packets until the connection ends, and then calls end.
func (c *conn) read() {
	defer close(c.readerDone)
	_ = c.nc.SetReadDeadline(time.Now().Add(c.b.opts.ConnectTimeout)) // Read returns the error
	r := wire.NewReader((*source)(c), c.b.opts.MaximumPacketSize)
	f, err := r.Next()
	if err == nil {
		if err = errOver; c.watch(ToServer, f.Raw) {
			err = c.connect(f)
		}
	}
	for err == nil {
		if f, err = r.Next(); err == nil {
			c.packets = true
			switch {
			case !c.watch(ToServer, f.Raw):
				err = errOver
			case c.v311:
				f, err = upgrade(f)
			}
		}
		if err == nil {
			err = c.handle(f)
		}
	}
	c.end(err)
	if <-c.writerDone; c.draining.Load() {
		c.discard()
	}
}

// discard reads until the client closes the connection or sends nothing for linger, but at most ten
// times linger.
func (c *conn) discard() {
	buf := make([]byte, 32<<10)
	for end := time.Now().Add(10 * linger); time.Now().Before(end); {
		_ = c.nc.SetReadDeadline(time.Now().Add(linger)) // Read returns the error
		if _, err := c.nc.Read(buf); err != nil {
			return
		}
	}
}

// end ends the connection according to the error of the reader.
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

// source is the io.Reader from which the reader goroutine reads the connection. Before it waits for
// bytes, it wakes the writers and sets the deadline of the keep alive.
type source conn

func (s *source) Read(p []byte) (int, error) {
	c := (*conn)(s)
	c.b.wake()
	if c.packets {
		c.packets = false
		if c.keepAlive > 0 {
			_ = c.nc.SetReadDeadline(time.Now().Add(c.keepAlive)) // Read returns the error
		}
		if c.draining.Load() {
			_ = c.nc.SetReadDeadline(time.Now().Add(linger)) // Read returns the error
		}
	}
	return c.nc.Read(p)
}
