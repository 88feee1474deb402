package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// FullPolicy says what Publish does when the store's MaxMessages or MaxBytes is
// reached. Its other limits always refuse. What may have been sent is never
// dropped, and neither is a message of a higher priority than the new one.
type FullPolicy uint8

const (
	// Reject: Publish returns persistence.ErrFull.
	Reject FullPolicy = iota
	// Block: Publish waits for room, until its context ends or the client does.
	Block
	// DropOldest: the oldest message of the lowest priority is dropped for the new
	// one; where none can be, Publish returns persistence.ErrFull.
	DropOldest
	// DropNewest: Publish returns a Delivery that has ended as Dropped, and no
	// error.
	DropNewest
)

// DroppedError says that a message was given up by a policy of this client.
type DroppedError struct {
	ID MessageID
	// Cause is a persistence.ErrFull under DropOldest and DropNewest, ErrConflated
	// where a newer message took its place, and nil in a Receipt, where it is not
	// known any more.
	Cause error
}

func (e *DroppedError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("client: message %v was given up by a policy; publish it again if it is still of use", e.ID)
	}
	return fmt.Sprintf("client: message %v dropped: %v", e.ID, e.Cause)
}

// Unwrap returns the cause.
func (e *DroppedError) Unwrap() error { return e.Cause }

// drops are messages that the store has dropped and that were not reported yet: the
// store reports them inside Enqueue, where the lock of a sequence may be held.
type drops struct {
	some atomic.Bool
	mu   sync.Mutex
	list []persistence.Drop
}

func (s *drops) add(d persistence.Drop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, d)
	s.some.Store(true)
}

func (s *drops) take() (list []persistence.Drop) {
	if !s.some.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, s.list = s.list, nil
	s.some.Store(false)
	return list
}

// reportDrops resolves the Deliveries of the messages that the store has dropped.
func (c *Client) reportDrops() {
	for _, d := range c.drops.take() {
		if c.ownStore && c.cfg.Store.Options.OnDrop != nil {
			c.cfg.Store.Options.OnDrop(d)
		}
		cause := persistence.ErrFull
		if d.Cause == persistence.Conflated {
			cause = ErrConflated
		}
		if m, tell := c.pending.end(d.Seq, cause); tell {
			c.drop(m.delivery, m.id, cause)
		}
	}
}

// conflated drops a message that was not sent and whose place a newer one took.
func (c *Client) conflated(e *persistence.Entry) {
	if err := c.store.Done(e.Seq, persistence.Result{Kind: persistence.Dropped}); err != nil {
		c.storeFailed(err)
	}
	m, _ := c.pending.end(e.Seq, nil)
	c.drop(m.delivery, e.ID, ErrConflated)
}

// drop ends a Delivery that a policy gave up.
func (c *Client) drop(d *Delivery, id MessageID, cause error) {
	c.counters.policyDrops.Add(1)
	d.resolve(Outcome{State: Dropped, Err: &DroppedError{ID: id, Cause: cause}})
	c.event(MessageDropped{ID: id, Cause: cause})
	c.drained()
}

// admit puts a message into the store, and where it is full does as WhenFull
// says. A Delivery says that the message was dropped.
func (c *Client) admit(ctx context.Context, m *Message, p *wire.Publish) (persistence.Ticket, *Delivery, error) {
	for {
		ticket, err := c.enqueue(m, p)
		c.reportDrops()
		if err == nil || !byPolicy(err) {
			return ticket, nil, err
		}
		switch c.cfg.Store.WhenFull {
		case DropNewest:
			d := &Delivery{ID: m.ID}
			c.drop(d, m.ID, err)
			return ticket, d, nil
		case Block:
			if err := c.awaitRoom(ctx, p.Size()); err != nil {
				return ticket, nil, err
			}
		default:
			return ticket, nil, err
		}
	}
}

// byPolicy says whether WhenFull is about this error.
func byPolicy(err error) bool {
	var full *persistence.FullError
	if errors.As(err, &full) {
		return full.Limit == "MaxMessages" || full.Limit == "MaxBytes"
	}
	return errors.Is(err, persistence.ErrFull) // of a store that does not say
}

// awaitRoom waits until the store has room for a packet, ctx ends or the client
// does.
func (c *Client) awaitRoom(ctx context.Context, size int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.ending, func() { cancel(context.Cause(c.ending)) })
	defer stop()
	return c.store.(persistence.RoomWaiter).Room(ctx, size) // Validate has checked it
}
