package outbox

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
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
	turn     chan struct{}         // has one token, for the call of Add that waits for room
	closing  context.Context       // ends the waits in Add
	close    context.CancelCauseFunc
	endless  context.Context // see bounded

	open     openTable
	late     notify.Serial[added] // messages whose callers of Add have left
	expiry   expiry
	deferred *deferral.Queue
	rules    deferral.Rules
	window   deferral.Window
	poison   poison
	blame    blame
	lost     lostSession
	reset    atomic.Bool      // the session was lost, and the send loop has not begun the next one
	damaged  atomic.Bool      // a damaged message has ended, and may have been sent
	adopted  atomic.Bool      // a session of which nothing is known was adopted, and the send loop has not begun it
	ended    notify.Broadcast // a message has ended, or a call of Add
	cancels  cancels

	// Sending. All but wake and up belongs to the send loop.
	wake     notify.Signal
	up       atomic.Pointer[session.Generation] // where messages may be sent; nil: nowhere
	again    *time.Timer                        // looks again at a breaker, a store or a deferred message
	againAt  time.Time                          // when it does; zero: it does not
	cursor   cursor
	sent     watermarks
	batch    []byte
	entry    persistence.Entry      // of a deferred or refused message
	over     []ending               // to be ended by path.go
	unread   []persistence.Deferred // of an earlier process, and not restored yet
	unpurged bool                   // the session was adopted by an earlier process, which has not sent anything
	rotation uint64                 // of the packet identifiers of deferred messages
	first    uint64                 // Number of the first message in the log, for the present batch of deferred ones; 0: not looked up
}

// New returns an Outbox that continues from what the store holds.
func New(cfg Config) *Outbox {
	o := &Outbox{
		cfg:      cfg,
		turn:     make(chan struct{}, 1),
		endless:  endless{context.Background(), make(chan struct{})},
		open:     newOpenTable(cfg.Store.LastSeq()),
		rules:    deferral.Compile(cfg.Rules),
		deferred: deferral.New(cfg.Retry),
		lost:     newLostSession(&cfg),
		sent:     newWatermarks(cfg.Store),
		wake:     notify.New(),
		unread:   cfg.Store.Deferred(),
		again:    time.NewTimer(time.Hour),
		// The first identifier is hardly the last one of an earlier process.
		rotation: rand.Uint64N(session.Recent),
	}
	o.replaces.Store(cfg.StoreDrops)
	o.unpurged = cfg.Adopted && nothingSent(cfg.Store)
	switch {
	case cfg.SentLost && o.unpurged:
		o.cursor.cure.Unknown()
	case cfg.SentLost:
		o.cursor.cure.All(cfg.Store.LastSeq())
	}
	o.again.Stop()
	o.turn <- struct{}{}
	o.expiry.init(cfg.MaxAge, cfg.Store.Stats().Pending == 0)
	o.late.Handle = o.storeLater
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

// failed returns the error of Add for an error of the store.
func (o *Outbox) failed(err error) error {
	switch {
	case errors.Is(err, persistence.ErrFailed):
		o.cfg.StoreFailed(err)
	case errors.Is(err, persistence.ErrClosed) && o.closing.Err() != nil: // by its owner, meanwhile
		return context.Cause(o.closing)
	}
	return err
}

func (o *Outbox) added() {
	if o.adding.Add(-1) == 0 {
		o.ended.Notify()
	}
}

// wait receives from c. The error is the cause if ctx ends or Stop is called first.
func (o *Outbox) wait(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.closing.Done():
		return context.Cause(o.closing)
	}
}

// idleGrace is how long WaitIdle waits for refusals to pass.
const idleGrace = 10 * time.Second

// WaitIdle returns nil when no message is pending and Add is not running. If ctx ends or Stop is
// called first, it returns the cause. If only deferred messages are left, and the last topic was
// refused more than idleGrace ago, it returns a *DeferredError.
func (o *Outbox) WaitIdle(ctx context.Context) error {
	for {
		changed := o.ended.Changed()
		// Calls of Add come first: what they add is pending then.
		adding, pending := o.adding.Load(), o.cfg.Store.Stats().Pending
		if adding == 0 && pending == 0 {
			return nil
		}
		wait, cancel := ctx, func() {}
		if adding == 0 && uint64(o.deferred.Messages()) == pending {
			d := o.Deferred()
			left := time.Until(d.Newest.Add(idleGrace))
			if left <= 0 {
				return &DeferredError{d}
			}
			wait, cancel = context.WithTimeout(ctx, left)
		}
		err := o.wait(wait, changed)
		passed := wait.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && !passed {
			return err
		}
	}
}

// Disconnected reports the end of a connection, with the reason code of the server's
// DISCONNECT; 0: there was none. It ends a message that is poison.
func (o *Outbox) Disconnected(g *session.Generation, reason byte) {
	o.up.CompareAndSwap(g, nil)
	seq, strikes := o.poison.disconnected(g, reason)
	trial, most := o.deferred.Trial(), o.cfg.PoisonAttempts
	var e persistence.Entry
	if seq != 0 {
		ok, err := o.cfg.Store.Get(seq, &e)
		if err != nil || !ok || e.Released {
			seq = 0 // the server has taken it over meanwhile: PUBREC was received
		} else if isolated, _ := o.deferred.Isolated(wire.ImageTopic(e.Packet), e.Priority); isolated || o.poison.gaveUp(&e) {
			most = min(most, 1) // it is the topic
		}
	}
	switch {
	case seq == 0 || strikes < most || most == 0:
		seq = trial
	case givesUpPoison(o.rules, &e, reason) && (seq == trial || strikes >= o.cfg.PoisonAttempts && !o.poison.gaveUp(&e)):
		o.poison.giveUp(&e)
		o.deferred.Note(deferral.Refusal{Seq: seq, Code: reason, Final: true, Strikes: max(strikes, 1)})
		o.Wake()
		return
	}
	if seq != 0 && e.Seq != seq {
		if ok, err := o.cfg.Store.Get(seq, &e); err != nil || !ok {
			e = persistence.Entry{}
		}
	}
	if seq != 0 {
		o.deferred.Note(deferral.Refusal{Seq: seq, Code: reason, Alone: true, Topic: o.poison.gaveUp(&e), Strikes: strikes})
		o.Wake()
	}
}

// ResetSession makes the session in the store void, durably, and gives it to owner.
// sent are the messages that this process has sent in it. Messages that are not to be
// sent twice end first in the log, since a void session does not tell that they were
// sent. They are reported when all is durable; after an error the next call continues.
func (o *Outbox) ResetSession(owner string, sent []uint64) error {
	if err := o.lost.record(o.cfg.Store, sent); err != nil {
		return err
	}
	if err := o.cfg.Store.ResetSession(owner); err != nil {
		return err
	}
	o.adopted.Store(false)
	o.reset.Store(true)
	o.open.connectionEnded()
	l := &o.lost
	l.report.Failed += len(l.recorded)
	for _, m := range l.recorded {
		o.end(m.seq, sessionLost(m.id, m.topic))
	}
	l.recorded = nil
	return nil
}

// Damaged ends a message whose record the store has found to be damaged.
func (o *Outbox) Damaged(seq uint64, err error) {
	if seq <= o.open.earlier || o.open.sentAt(seq) == 2 { // its packet identifier is in the damaged record
		o.damaged.Store(true)
		o.Wake()
	}
	o.end(seq, End{State: Dropped, Cause: Damaged, Err: err, stored: true})
}

// verdict is what becomes of a message that the send loop looks at: an answer of the
// session, or gone.
type verdict = session.Admission

const (
	passed          = session.Admitted // it is sent, or has ended
	held            = session.Taken    // it has to wait, with all of its priority
	stopped         = session.Wait     // nothing can be sent now
	gone    verdict = -1               // it has ended since it was read
)

// refused is the End of a message that the server refuses.
func (o *Outbox) refused(cause Cause, reason byte) End {
	state := Refused
	if o.cfg.DeadLetters {
		state = DeadLettered
	}
	return End{State: state, Cause: cause, Reason: reason}
}

// topicOf reads the topic of a message that ends; empty: it has ended in the store already.
func (o *Outbox) topicOf(seq uint64) string {
	var e persistence.Entry
	if ok, err := o.cfg.Store.Get(seq, &e); !ok || err != nil {
		return ""
	}
	return string(wire.ImageTopic(e.Packet))
}

// storeFailed leaves the store alone for a while.
func (o *Outbox) storeFailed(err error) verdict {
	o.cfg.StoreFailed(err)
	o.lookAgain(storeRetry)
	return stopped
}

// lookAgain wakes the send loop after this time at the latest.
func (o *Outbox) lookAgain(after time.Duration) {
	if after <= 0 || after == math.MaxInt64 {
		return
	}
	if at := time.Now().Add(after); o.againAt.IsZero() || at.Before(o.againAt) {
		o.againAt = at
		o.again.Reset(after)
	}
}

// Close ends the outbox when Run has returned and there is no connection. The store learns what was
// only about to be sent, and open messages end as Abandoned with err. The store is not closed.
func (o *Outbox) Close(err error) {
	o.answerRefusals(nil)
	o.endAll()
	if failed := o.sent.lower(o.cfg.Store); failed != nil {
		o.cfg.StoreFailed(failed)
	}
	o.open.abandon(err)
}
