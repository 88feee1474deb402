package client_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// sending is a pipe with a send buffer, like a socket: a peer that does not read blocks the writer
// only when the buffer is full. Without a buffer, two writers would block on a lock, which stops
// fake time.
type sending struct {
	net.Conn
	queue chan []byte
	once  sync.Once
	done  chan struct{}
}

func withSendBuffer(nc net.Conn) net.Conn {
	b := &sending{Conn: nc, queue: make(chan []byte, 4096), done: make(chan struct{})}
	go func() {
		defer nc.Close()
		for {
			select {
			case p := <-b.queue:
				if _, err := nc.Write(p); err != nil {
					return
				}
			case <-b.done:
				// Bytes in the buffer are still sent if the peer reads them.
				_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
				for {
					select {
					case p := <-b.queue:
						if _, err := nc.Write(p); err != nil {
							return
						}
					default:
						return
					}
				}
			}
		}
	}()
	return b
}

func (b *sending) Write(p []byte) (int, error) {
	select {
	case <-b.done:
		return 0, net.ErrClosed
	case b.queue <- append([]byte(nil), p...):
		return len(p), nil
	default:
		return 0, os.ErrDeadlineExceeded
	}
}

func (b *sending) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = net.ErrClosed
	}
	return n, err
}

func (b *sending) SetWriteDeadline(time.Time) error { return nil }

// Close ends reading at once.
func (b *sending) Close() error {
	b.once.Do(func() {
		close(b.done)
		_ = b.Conn.SetReadDeadline(time.Unix(1, 0))
	})
	return nil
}

// sendingThrough returns a function that dials a pipe proxy with a send buffer.
func sendingThrough(p *mqtttest.Proxy) func() net.Conn {
	dial := through(p)
	return func() net.Conn { return withSendBuffer(dial()) }
}

// connectSoon waits for a connection with a limit. Without one, attempts that fail at once would
// repeat forever in a bubble.
func connectSoon(t testing.TB, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := c.AwaitConnection(ctx); err != nil {
		t.Fatalf("%v; the state is %+v", err, c.State())
	}
}
