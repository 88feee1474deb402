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

// TB is what is used of testing.TB. Fatalf must not return.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// backlog is how many connections may wait to be accepted.
const backlog = 1024

// Broker hands the connections that a client dials to the test. Its methods
// other than Dial belong to the goroutine of the test.
type Broker struct {
	// Patience is how long anything that is expected may take. Default 10 s,
	// which is less than the default keep alive.
	Patience time.Duration

	t       TB
	ln      net.Listener // nil: net.Pipe
	waiting chan net.Conn
	gone    chan struct{} // closed when the test is over

	mu    sync.Mutex
	over  bool
	conns []net.Conn
	all   sync.WaitGroup
}

// New returns a Broker whose connections are pipes. When the test ends, what is
// left of them is closed.
func New(t TB) *Broker {
	b := &Broker{Patience: 10 * time.Second, t: t, waiting: make(chan net.Conn, backlog), gone: make(chan struct{})}
	t.Cleanup(b.close)
	return b
}

// NewTCP returns a Broker whose connections are TCP, on the loopback interface.
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

// Dial opens a connection; it is a client.Config.Connection.Dial. It fails once the test is
// over.
func (b *Broker) Dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	if b.ln != nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", b.ln.Addr().String())
	}
	near, far := net.Pipe()
	if !b.offer(far) {
		return nil, errors.New("fakebroker: the test is over, or too many connections wait")
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

// close ends everything and waits for it.
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

// Accept takes the next connection. Nothing was expected of it yet.
func (b *Broker) Accept() *Conn {
	b.t.Helper()
	timer := time.NewTimer(b.Patience)
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

// Take takes the next connection; ok is false when the test is over. It waits without a limit, so
// that a server may run on a goroutine of its own, beside [Conn.Packet].
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

// Open takes the next connection and its first packet, which must be a CONNECT.
func (b *Broker) Open() (*Conn, control.Connect) {
	b.t.Helper()
	c := b.Accept()
	return c, c.ExpectConnect()
}

// Connect takes the next connection and its CONNECT, and answers with ack.
func (b *Broker) Connect(ack control.Connack) (*Conn, control.Connect) {
	b.t.Helper()
	c, connect := b.Open()
	c.Connack(ack)
	return c, connect
}

// Quiet wants that the client does not connect for as long as d. It needs a
// bubble of testing/synctest; d is fake time.
func (b *Broker) Quiet(d time.Duration) {
	b.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if n := len(b.waiting); n > 0 {
		b.t.Fatalf("the client connected %d times, and should not", n)
	}
}
