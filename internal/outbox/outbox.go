package outbox

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
)

// Outbox delivers accepted messages. Add, Connected, Disconnected, Acknowledged and
// Wake may be called at any time; Run is called once.
type Outbox struct {
	cfg Config

	// Accepting.
	streams  streams
	replaces atomic.Bool           // the store may drop unsent messages for newer ones
	adding   atomic.Int64          // calls of Add
	refuse   atomic.Pointer[error] // what Add returns; nil: it accepts
	blocked  chan struct{}         // held by the call of Add that waits for room
	closing  context.Context       // ends the waits in Add
	close    context.CancelCauseFunc

	open   openTable
	expiry expiry
	poison poison
	lost   lostSession
	ended  notify.Broadcast // a message has ended, or a call of Add

	// Sending. All but wake and up belongs to the send loop.
	wake   notify.Signal
	up     atomic.Pointer[session.Generation] // where messages may be sent; nil: nowhere
	retry  *time.Timer                        // looks again at a breaker or a store
	cursor cursor
	sent   watermarks
	batch  []byte
}

// New returns an Outbox that continues from what the store holds.
func New(cfg Config) *Outbox {
	o := &Outbox{
		cfg:     cfg,
		blocked: make(chan struct{}, 1),
		open:    newOpenTable(cfg.Store.LastSeq()),
		lost:    newLostSession(cfg.Store),
		sent:    newWatermarks(cfg.Store),
		wake:    notify.New(),
		retry:   time.NewTimer(time.Hour),
	}
	o.replaces.Store(cfg.StoreDrops)
	o.retry.Stop()
	o.expiry.init(cfg.MaxAge, cfg.Store.Stats().Pending == 0)
	o.closing, o.close = context.WithCancelCause(context.Background())
	return o
}

// Connected lets messages go out on a connection, until Disconnected. Unstored
// messages of earlier connections must have been resent.
func (o *Outbox) Connected(g *session.Generation) {
	o.up.Store(g)
	o.Wake()
}

// Wake makes the send loop look again: the window has room.
func (o *Outbox) Wake() { o.wake.Set() }

// Refuse makes Add return err from now on. Calls under way go on.
func (o *Outbox) Refuse(err error) { o.refuse.Store(&err) }

// Refused returns what Add returns; nil: it accepts messages.
func (o *Outbox) Refused() error {
	if err := o.refuse.Load(); err != nil {
		return *err
	}
	return nil
}

// Stop makes Add return err from now on, calls that wait for room included.
func (o *Outbox) Stop(err error) {
	o.Refuse(err)
	o.close(err)
}

// WaitIdle returns nil when no message is pending and Add is not running. If ctx
// ends or Stop is called first, it returns the cause.
func (o *Outbox) WaitIdle(ctx context.Context) error {
	for {
		changed := o.ended.Changed()
		// Calls of Add come first: what they add is pending then.
		if o.adding.Load() == 0 && o.cfg.Store.Stats().Pending == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-o.closing.Done():
			return context.Cause(o.closing)
		}
	}
}

// Damaged ends a message whose record the store has found to be damaged.
func (o *Outbox) Damaged(seq uint64, err error) {
	o.end(seq, End{State: Dropped, Cause: Damaged, Err: err, stored: true})
}

// Close ends the outbox when Run has returned and there is no connection. The store
// learns what was only about to be sent, and open messages end as Abandoned with
// err. The store is not closed.
func (o *Outbox) Close(err error) {
	if failed := o.sent.lower(o.cfg.Store); failed != nil {
		o.cfg.StoreFailed(failed)
	}
	o.open.abandon(err)
}
