package outbox

import (
	"context"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// cancels are messages that are to end before they are sent. The send loop ends them, since it knows
// what it has sent.
type cancels struct {
	mu   sync.Mutex
	list []cancel
}

type cancel struct {
	seq  uint64
	done chan<- bool // has room for the answer
}

// Cancel ends a pending message that was certainly not sent, and reports whether it did. It waits for
// the send loop. The error is the cause if ctx ends or Stop is called first: the message may still end.
func (o *Outbox) Cancel(ctx context.Context, seq uint64) (ended bool, err error) {
	done := make(chan bool, 1)
	o.cancels.mu.Lock()
	o.cancels.list = append(o.cancels.list, cancel{seq, done})
	o.cancels.mu.Unlock()
	o.Wake()
	select {
	case ended = <-done:
		return ended, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-o.closing.Done():
		return false, context.Cause(o.closing)
	}
}

// endCancelled answers the calls of Cancel.
func (o *Outbox) endCancelled() {
	c := &o.cancels
	c.mu.Lock()
	list := c.list
	c.list = nil
	c.mu.Unlock()
	for _, x := range list {
		ok, err := o.cfg.Store.Get(x.seq, &o.entry)
		if err != nil {
			o.cfg.StoreFailed(err)
		}
		e := &o.entry
		if ok = ok && err == nil && o.unsent(e); ok {
			o.end(x.seq, End{ID: e.ID, Topic: string(wire.ImageTopic(e.Packet)), State: Dropped, Cause: Cancelled})
		}
		x.done <- ok
	}
}

// unsent reports whether a message was certainly not sent in this session.
func (o *Outbox) unsent(e *persistence.Entry) bool {
	return !e.Released && e.Deferral.PacketID == 0 && !o.sent.maybeSent(e)
}
