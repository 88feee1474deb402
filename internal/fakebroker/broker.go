package fakebroker

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// TB is the part of testing.TB that this package uses. Fatalf must not return.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// backlog is the maximum number of connections that wait to be accepted.
const backlog = 1024

// Broker passes the connections that a client dials to the test. Only the goroutine of the test may
// call its methods, except Dial.
type Broker struct {
	// Timeout is the maximum time to wait for anything that the test expects. The default is 10 s,
	// which is less than the default keep alive.
	Timeout time.Duration

	t       TB
	ln      net.Listener // nil: net.Pipe
	waiting chan net.Conn
	gone    chan struct{} // closed at the end of the test

	mu    sync.Mutex
	over  bool
	conns []net.Conn
	all   sync.WaitGroup
}

// New returns a Broker whose connections are pipes. At the end of the test, it closes the remaining
// connections.
func New(t TB) *Broker {
	b := &Broker{Timeout: 10 * time.Second, t: t, waiting: make(chan net.Conn, backlog), gone: make(chan struct{})}
	t.Cleanup(b.close)
	return b
}

// NewTCP returns a Broker whose connections use TCP on the loopback interface.
func NewTCP(t TB) *Broker {
	t.Helper()
	b := New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("fakebroker: %v", err)
	}
	b.ln = ln
	b.all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			b.offer(nc)
		}
	})
	return b
}

// Dial opens a connection. It is a client.Config.Connection.Dial. It fails after the end of the
// test.
func (b *Broker) Dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	if b.ln != nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.ln.Addr().String())
	}
	near, far := net.Pipe()
	if !b.offer(far) {
		return nil, errors.New("fakebroker: the test has ended, or too many connections wait")
	}
	return near, nil
}

func (b *Broker) offer(nc net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		select {
		case b.waiting <- nc:
			b.conns = append(b.conns, nc)
			return true
		default:
		}
	}
	_ = nc.Close()
	return false
}

// close closes all connections and waits for all goroutines.
func (b *Broker) close() {
	b.mu.Lock()
	b.over = true
	close(b.gone)
	for _, nc := range b.conns {
		_ = nc.Close()
	}
	b.mu.Unlock()
	if b.ln != nil {
		_ = b.ln.Close()
	}
	b.all.Wait()
}

// Accept returns the next connection, before any packet was read from it.
func (b *Broker) Accept() *Conn {
	b.t.Helper()
	timer := time.NewTimer(b.Timeout)
	defer timer.Stop()
	select {
	case nc := <-b.waiting:
		c := &Conn{b: b, t: b.t, nc: nc, frames: make(chan frame, keep)}
		b.all.Go(c.read)
		return c
	case <-timer.C:
		b.t.Fatalf("the client does not connect")
	}
	panic("unreachable: Fatalf returned")
}

// Take returns the next connection. ok is false at the end of the test. Take waits without a limit,
// so that a server can run on its own goroutine, with [Conn.Packet].
func (b *Broker) Take() (c *Conn, ok bool) {
	select {
	case nc := <-b.waiting:
		c = &Conn{b: b, t: b.t, nc: nc, frames: make(chan frame, 4096)}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.over {
			return nil, false
		}
		b.all.Go(c.read)
		return c, true
	case <-b.gone:
		return nil, false
	}
}

// Open accepts the next connection and reads its first packet, which must be a CONNECT.
func (b *Broker) Open() (*Conn, control.Connect) {
	b.t.Helper()
	c := b.Accept()
	return c, c.ExpectConnect()
}

// Connect accepts the next connection, reads its CONNECT, and answers with ack.
func (b *Broker) Connect(ack control.Connack) (*Conn, control.Connect) {
	b.t.Helper()
	c, connect := b.Open()
	c.Connack(ack)
	return c, connect
}

// Quiet checks that the client does not connect for the time d. It needs a bubble of
// testing/synctest, and d is fake time.
func (b *Broker) Quiet(d time.Duration) {
	b.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if n := len(b.waiting); n > 0 {
		b.t.Fatalf("the client connected %d times, and should not", n)
	}
}
