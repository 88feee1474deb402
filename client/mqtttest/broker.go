package mqtttest

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Broker is an MQTT 5 broker inside the process. Its methods are safe for
// concurrent use.
//
// All state is guarded by one mutex; each connection has a reader and a writer
// goroutine, and one goroutine serves all timers. What one packet changes is
// one transaction of the journal, written before anything that it leads to
// leaves the broker.
type Broker struct {
	opts  Options
	state sync.Mutex // for changes: lock and unlock

	// guarded by state
	sessions  map[string]*session
	conns     map[*conn]struct{}
	tree      tree
	retained  map[string]*message
	timers    timers
	messageID uint64
	sessionID uint64
	log       *journal // nil without Options.Dir
	dirty     []*conn  // have something to write; woken by wake
	stats     Stats
	closed    bool
	changed   chan struct{} // closed by the next event, if someone waits for it

	done      chan struct{} // closed when the broker ends
	wg        sync.WaitGroup
	listeners []io.Closer
	httpd     *http.Server
	addrs     struct{ tcp, tls, ws string }
	trust     *tls.Config
}

// Start starts a broker for a test and closes it when the test ends. It fails
// the test if it cannot.
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

// New starts a broker. With Options.Dir it goes on where the last broker on
// that folder ended, however that was. The caller must Close it.
func New(o Options) (*Broker, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &Broker{
		opts:     o,
		sessions: make(map[string]*session),
		conns:    make(map[*conn]struct{}),
		retained: make(map[string]*message),
		timers:   timers{kick: make(chan struct{}, 1)},
		done:     make(chan struct{}),
	}
	if err := b.restore(); err != nil {
		return nil, err
	}
	if err := b.listen(); err != nil {
		_ = b.end(true) // the failure to listen is the one to report
		return nil, err
	}
	b.wg.Go(b.runTimers)
	return b, nil
}

// Close ends the broker: clients are sent DISCONNECT 0x8B, what is owed is
// written to the folder, and every goroutine is gone when it returns. Wills of
// the connected clients are left to the next broker on the same folder, as
// section 3.1.2.5 allows. A second call does nothing.
func (b *Broker) Close() error { return b.end(false) }

// Kill ends the broker as SIGKILL would: connections are cut without a word
// and what was not handed to the operating system is lost. The goroutines are
// gone when it returns, so that a new broker can take over folder and address.
func (b *Broker) Kill() { _ = b.end(true) }

// closeGrace is how long Close lets connections flush.
const closeGrace = time.Second

func (b *Broker) end(kill bool) error {
	b.lock()
	if b.closed {
		b.unlock()
		b.wg.Wait()
		return nil
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
	b.wake()
	for _, l := range b.listeners {
		_ = l.Close() // nobody is served after this either way
	}
	if b.httpd != nil {
		_ = b.httpd.Close()
	}
	for _, c := range cut {
		_ = c.raw.Close()
	}
	late := time.AfterFunc(closeGrace, b.cutAll)
	b.wg.Wait()
	late.Stop()
	if err := b.log.close(); err != nil {
		return fmt.Errorf("mqtttest: the journal in %s may be incomplete: %w", b.opts.Dir, err)
	}
	return nil
}

// suspend notes in the journal that all clients lose their connections now.
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

func (b *Broker) lock() { b.state.Lock() }

// unlock ends the event that lock began: all its changes become one
// transaction of the journal.
func (b *Broker) unlock() {
	b.log.commit()
	if b.log.overgrown() {
		b.compact()
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.state.Unlock()
}

// wake starts the writers of all connections that have something to write,
// after the journal, so that an idle broker owes its folder nothing. A reader
// calls it before it waits for more bytes: a burst of packets becomes a burst
// of answers.
func (b *Broker) wake() {
	if err := b.log.flush(); err != nil {
		b.opts.Logger.Error("the journal cannot be written; connections will be cut", "dir", b.opts.Dir, "error", err)
	}
	b.state.Lock()
	defer b.state.Unlock()
	for i, c := range b.dirty {
		c.dirty = false
		signal(c.wakeup)
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
}

// mark notes that c has something to write.
func (b *Broker) mark(c *conn) {
	if c != nil && !c.dirty {
		c.dirty = true
		b.dirty = append(b.dirty, c)
	}
}

// Dial returns the client's end of a connection that exists in memory only.
// After Close its peer is closed.
func (b *Broker) Dial() net.Conn {
	client, server := net.Pipe()
	b.Serve(server)
	return client
}

// Serve takes over a connection that was made in another way and returns at
// once. The broker closes nc.
func (b *Broker) Serve(nc net.Conn) { b.serve(nc, nc) }
