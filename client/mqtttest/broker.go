package mqtttest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
)

// Broker is an MQTT 5 broker inside the process. Its methods are safe for concurrent use.
type Broker struct {
	opts    Options
	replies replyRules
	state   sync.Mutex // use lock and unlock for changes

	// guarded by state
	sessions  map[string]*session
	conns     map[*conn]struct{}
	tree      tree
	retained  retainedSet
	timers    timers
	messageID uint64
	sessionID uint64
	log       *journal // nil without Options.Dir
	dirty     []*conn  // connections with something to write; wake wakes their writers
	stats     Stats
	closed    bool
	changed   chan struct{} // closed by the next event; nil without waiters

	ctx       context.Context // ends when the broker begins to end
	cancel    context.CancelFunc
	done      chan struct{} // closed when the broker begins to end
	stopped   chan struct{} // closed when it has ended
	stopErr   error         // valid after stopped is closed
	wg        sync.WaitGroup
	listeners []io.Closer
	httpd     *http.Server
	addrs     struct{ tcp, tls, ws string }
	trust     *tls.Config
}

func (b *Broker) lock() { b.state.Lock() }

// unlock ends the event that lock began. Its changes become one transaction of the journal, which
// is written before any packet that results from them is sent.
func (b *Broker) unlock() {
	b.log.commit()
	b.log.compact()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.state.Unlock()
}

// wake flushes the journal and then wakes the writers of all connections that have something to
// write. A reader calls it before it waits for more bytes, so a burst of packets is answered by a
// burst.
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

// mark records that c has something to write.
func (b *Broker) mark(c *conn) {
	if c != nil && !c.dirty {
		c.dirty = true
		b.dirty = append(b.dirty, c)
	}
}
