package link

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// This file is the end of a Conn.

// writeFailedLocked breaks the connection. If the server has closed it, a DISCONNECT that is received
// and not read yet may say why: the reader gets closeTimeout to find it.
func (c *Conn) writeFailedLocked(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || c.gen.Load() == nil {
		return c.breakLocked(err)
	}
	c.broken, c.out = err, nil
	c.writeFailed.Store(&err)
	time.AfterFunc(closeTimeout, func() {
		c.setCause(err)
		_ = c.Conn.Close()
	})
	return err
}

func (c *Conn) breakLocked(err error) error {
	c.broken, c.out = err, nil
	c.setCause(err)
	_ = c.Conn.Close()
	return err
}

// Fail closes the connection because of err. For a violation by the server, a
// CloseError and an error with a reason code it sends a DISCONNECT first, if no writer
// is stuck. The cause is set after that, since those who wait for it close the connection.
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
	if closing != nil && c.lockSoon() {
		if c.broken == nil {
			if p := closing.packet(); c.checkSize(len(p)) == nil {
				c.out = append(c.out, p...)
			}
			if len(c.out) > 0 {
				_ = c.SetWriteDeadline(time.Now().Add(closeTimeout))
				_, _ = c.Conn.Write(c.out)
			}
			c.out, c.broken = nil, err
			c.setCause(err) // before a writer finds broken set, and closes the connection
		}
		c.mu.Unlock()
	}
	c.setCause(err)
	_ = c.Conn.Close()
}

// lockSoon locks mu. It returns false where a writer holds it for longer than closeTimeout.
func (c *Conn) lockSoon() bool {
	for begin := time.Now(); !c.mu.TryLock(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > closeTimeout {
			return false
		}
	}
	return true
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

// Failed is closed when the connection has ended.
func (c *Conn) Failed() <-chan struct{} { return c.failed }

// Cause is why the connection ended; nil while it is up.
func (c *Conn) Cause() error {
	select {
	case <-c.failed:
		return c.cause
	default:
		return nil
	}
}
