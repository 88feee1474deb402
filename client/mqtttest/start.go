package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

// Start starts a broker for a test, and closes the broker when the test ends. If the start fails,
// the test fails.
func Start(t testing.TB, opts ...Option) *Broker {
	t.Helper()
	var o Options
	for _, opt := range opts {
		opt(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// New starts a broker. With Options.Dir, the broker continues with the state of the last broker in
// that folder. The caller must call Close.
func New(o Options) (*Broker, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &Broker{
		opts:     o,
		sessions: make(map[string]*session),
		conns:    make(map[*conn]struct{}),
		retained: retainedSet{byTopic: make(map[string]*retainedMessage)},
		timers:   timers{kick: make(chan struct{}, 1)},
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if err := b.restore(); err != nil {
		b.cancel()
		return nil, err
	}
	if err := b.listen(); err != nil {
		_ = b.end(true) // the error of listen is returned
		return nil, err
	}
	b.wg.Go(b.runTimers)
	return b, nil
}

// Close sends DISCONNECT 0x8B to all clients, writes the state to the folder and stops all
// goroutines. The next broker that uses the folder publishes the wills of the clients that were
// connected. Section 3.1.2.5 of MQTT 5 allows this.
//
// Close waits up to 2 s for hooks. After this time, it returns an error that names a hook that has
// not returned. Every call of Close waits for the end of the broker and returns the same error.
// Only a call from inside a hook does not wait.
func (b *Broker) Close() error { return b.end(false) }

// Kill ends the broker like the signal SIGKILL. It cuts connections without DISCONNECT. Data that
// was not written to the operating system is lost. Kill stops all goroutines and waits like Close,
// so that a new broker can use the folder and the address.
func (b *Broker) Kill() { _ = b.end(true) }

// closeGrace is how long Close waits for connections to flush.
const closeGrace = time.Second

func (b *Broker) end(kill bool) error {
	if b.begin(kill) {
		go b.finish()
	}
	if b.insideHook() {
		return nil // the end of the broker waits for this hook
	}
	<-b.stopped
	return b.stopErr
}

// begin ends all connections and listeners. It returns false if that was done before.
func (b *Broker) begin(kill bool) bool {
	b.lock()
	if b.closed {
		b.unlock()
		return false
	}
	b.closed = true
	if kill {
		b.log.kill()
	} else {
		b.suspend()
	}
	var cut []*conn
	for c := range b.conns {
		if kill {
			c.closing, c.out = true, nil
			b.mark(c)
			cut = append(cut, c)
		} else {
			c.finish(reasonServerShuttingDown, "")
		}
	}
	b.unlock()
	close(b.done)
	b.cancel()
	b.wake()
	for _, l := range b.listeners {
		_ = l.Close() // afterwards no connection is accepted, even after an error
	}
	if b.httpd != nil {
		_ = b.httpd.Close()
	}
	for _, c := range cut {
		_ = c.raw.Close()
	}
	return true
}

// finish waits for the goroutines and closes the journal.
func (b *Broker) finish() {
	defer close(b.stopped)
	late := time.AfterFunc(closeGrace, b.cutAll)
	defer late.Stop()
	ended := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(ended)
	}()
	var stuck error
	for running := true; running && stuck == nil; {
		select {
		case <-ended:
			running = false
		case <-time.After(hookLimit):
			stuck = b.stuckHook()
		}
	}
	if err := b.log.close(); err != nil {
		b.stopErr = fmt.Errorf("mqtttest: the journal in %s may be incomplete: %w", b.opts.Dir, err)
	}
	b.stopErr = errors.Join(stuck, b.stopErr)
}

// suspend records in the journal that all clients are disconnected now.
func (b *Broker) suspend() {
	for _, s := range b.sessions {
		if s.conn != nil {
			s.lostAt = time.Now()
			b.log.session(s)
		}
	}
}

func (b *Broker) cutAll() {
	b.lock()
	defer b.unlock()
	for c := range b.conns {
		_ = c.raw.Close()
	}
}

// Dial returns the client's end of an in-memory connection. If the broker is closed, the other end
// of the connection is already closed.
func (b *Broker) Dial() net.Conn {
	client, server := net.Pipe()
	b.Serve(server)
	return client
}

// Serve serves a connection that the caller has opened, and returns at once. The broker closes nc
// when the connection ends.
func (b *Broker) Serve(nc net.Conn) { b.serve(nc, nc) }

// Stats returns a snapshot of the gauges and counters.
func (b *Broker) Stats() Stats {
	b.state.Lock()
	defer b.state.Unlock()
	s := b.stats
	s.Sessions, s.Retained = len(b.sessions), len(b.retained.byTopic)
	for _, session := range b.sessions {
		s.Queued += session.queue.n
		s.InFlight += len(session.flights.byID)
	}
	return s
}
