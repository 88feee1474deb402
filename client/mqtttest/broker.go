package mqtttest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// Broker is an MQTT 5 broker inside the process. Its methods are safe for concurrent use.
type Broker struct {
	opts     Options
	replies  replyRules
	refusing atomic.Pointer[refusing]
	state    sync.Mutex // use lock and unlock for changes

	// guarded by state
	sessions  map[string]*session
	conns     map[*conn]struct{}
	tree      tree
	retained  retainedSet
	timers    timers
	messageID uint64
	sessionID uint64
	log       *journal // nil without Options.Dir
	dirty     []*conn  // connections that have data to write; wake wakes their writers
	stats     Stats
	published published
	closed    bool
	changed   chan struct{} // closed by the next event; nil if no goroutine waits

	ctx       context.Context // canceled when the broker begins to stop
	cancel    context.CancelFunc
	done      chan struct{} // closed when the broker begins to stop
	stopped   chan struct{} // closed when the broker has stopped
	stopErr   error         // valid after stopped is closed
	wg        sync.WaitGroup
	listeners []io.Closer
	httpd     *http.Server
	addrs     struct{ tcp, tls, ws string }
	trust     *tls.Config
}

func (b *Broker) lock() { b.state.Lock() }

// unlock ends the event that lock began. The changes of the event become one transaction of the
// journal. The transaction is written before the broker sends any packet that results from these
// changes.
func (b *Broker) unlock() {
	b.log.commit()
	b.log.compact()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	b.state.Unlock()
}

// wake flushes the journal. It then wakes the writers of all connections that have data to write. A
// reader calls wake before it waits for more bytes, so the broker answers a burst of packets with a
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

// mark records that c has data to write.
func (b *Broker) mark(c *conn) {
	if c != nil && !c.dirty {
		c.dirty = true
		b.dirty = append(b.dirty, c)
	}
}
