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

// Outbox delivers accepted messages. Add, Connected, Disconnected, Acknowledged and Wake are safe
// for concurrent use. Run must be called exactly once.
type Outbox struct {
	cfg Config

	// Accepting.
	streams  streams
	replaces atomic.Bool             // the store may drop unsent messages for newer ones
	adding   atomic.Int64            // calls of Add
	refuse   atomic.Pointer[refusal] // nil: Add accepts messages
	turn     chan struct{}           // has one token, held by the call of Add that waits for room
	closing  context.Context         // ends the waits in Add
	close    context.CancelCauseFunc
	endless  context.Context // replaces a context that never ends; see bounded

	open     openTable
	late     notify.Serial[added] // messages whose calls of Add have already returned
	expiry   expiry
	deferred *deferral.Queue
	rules    deferral.Rules
	window   deferral.Window
	poison   poison
	blame    blame
	lost     lostSession
	reset    atomic.Bool      // the session was lost, and the send loop has not yet begun the next one
	damaged  atomic.Bool      // a damaged message that may have been sent has ended
	adopted  atomic.Bool      // a session of unknown content was adopted, and the send loop has not yet begun it
	ended    notify.Broadcast // notified when a message has ended or a call of Add has returned
	cancels  cancels

	// Sending. Only the send loop uses these fields, except wake and up.
	wake     notify.Signal
	up       atomic.Pointer[session.Generation] // the connection to send on; nil: there is none
	again    *time.Timer                        // wakes the send loop for the breaker, the store or a deferred message
	againAt  time.Time                          // when again fires; zero: it is stopped
	cursor   cursor
	sent     watermarks
	batch    []byte
	entry    persistence.Entry      // of a deferred or refused message
	over     []ending               // messages that path.go has to end
	unread   []persistence.Deferred // messages deferred by an earlier process that are not restored yet
	unpurged bool                   // an earlier process adopted the session and sent nothing in it
	rotation uint64                 // where freeIdentifier continues its search
	first    uint64                 // Number of the first message in the log, cached for one batch of deferred messages; 0: unknown
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
		// Start at a random identifier: it is unlikely to be the last one that an earlier process
		// used.
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

// Connected makes the send loop send on g until Disconnected is called. The caller must have resent
// the unstored messages of earlier connections before.
func (o *Outbox) Connected(g *session.Generation) {
	o.up.Store(g)
	o.Wake()
}

// Wake makes the send loop check again whether it can send, for example when the window has room.
func (o *Outbox) Wake() { o.wake.Set() }

// refusal makes Add return err, except on goroutines for which except returns true.
type refusal struct {
	err    error
	except func() bool // may be nil
}

// Refuse makes Add return err from now on, except on goroutines for which except returns true.
// except may be nil. Calls of Add that are already running continue.
func (o *Outbox) Refuse(err error, except func() bool) { o.refuse.Store(&refusal{err, except}) }

// Refused returns the error that Add returns on this goroutine, or nil if Add accepts messages.
func (o *Outbox) Refused() error {
	if r := o.refuse.Load(); r != nil && (r.except == nil || !r.except()) {
		return r.err
	}
	return nil
}

// Stop makes Add return err from now on. Calls of Add that wait for room return err as well.
func (o *Outbox) Stop(err error) {
	o.Refuse(err, nil)
	o.close(err)
}

// failed converts an error of the store into the error that Add returns.
func (o *Outbox) failed(err error) error {
	switch {
	case errors.Is(err, persistence.ErrFailed):
		o.cfg.StoreFailed(err)
	case errors.Is(err, persistence.ErrClosed) && o.closing.Err() != nil: // the application closed the store meanwhile
		return context.Cause(o.closing)
	}
	return err
}

func (o *Outbox) added() {
	if o.adding.Add(-1) == 0 {
		o.ended.Notify()
	}
}

// wait receives from c. If ctx ends or Stop is called first, it returns the cause.
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

// idleGrace is how long WaitIdle waits for the server to accept deferred messages again.
const idleGrace = 10 * time.Second

// WaitIdle returns nil when no message is pending and no call of Add is running. If ctx ends or
// Stop is called first, it returns the cause. It returns a *DeferredError if only deferred messages
// are left and the server refused the last topic more than idleGrace ago.
func (o *Outbox) WaitIdle(ctx context.Context) error {
	for {
		changed := o.ended.Changed()
		// Check the calls of Add first: the messages that they add are pending afterwards.
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

// Disconnected reports the end of a connection. The reason is the reason code of the server's
// DISCONNECT, or 0 if there was none. If a message is poison, Disconnected defers it or gives it
// up.
func (o *Outbox) Disconnected(g *session.Generation, reason byte) {
	o.up.CompareAndSwap(g, nil)
	seq, strikes := o.poison.disconnected(g, reason)
	trial, most := o.deferred.Trial(), o.cfg.PoisonAttempts
	var e persistence.Entry
	if seq != 0 {
		ok, err := o.cfg.Store.Get(seq, &e)
		if err != nil || !ok || e.Released {
			seq = 0 // the server sent PUBREC meanwhile, so it has accepted the message
		} else if isolated, _ := o.deferred.Isolated(wire.ImageTopic(e.Packet), e.Priority); isolated || o.poison.gaveUp(&e) {
			most = min(most, 1) // the topic is already known to end connections
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

// ResetSession durably marks the session in the store as void and assigns a new one to owner. sent
// lists the messages that this process has sent in the session. Messages that must not be sent
// twice end in the log first, because a void session does not record which messages were sent.
// ResetSession reports their ends when everything is durable. After an error, the next call
// continues where this one failed.
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

// Damaged ends a message whose record is damaged in the store.
func (o *Outbox) Damaged(seq uint64, err error) { // its packet identifier is unknown, because it is in the damaged record
	if seq <= o.open.earlier || o.open.sentAt(seq) == 2 { // its packet identifier is in the damaged record
		o.damaged.Store(true)
		o.Wake()
	}
	o.end(seq, End{State: Dropped, Cause: Damaged, Err: err, stored: true})
}

// verdict is the decision about the message at the cursor: an Admission of the session, or gone.
type verdict = session.Admission

const (
	passed          = session.Admitted // the message was sent or has ended
	held            = session.Taken    // the message must wait, and so must all messages of its priority
	stopped         = session.Wait     // nothing can be sent now
	gone    verdict = -1               // the message has ended since it was read
)

// refused returns the End of a message that the server refuses.
func (o *Outbox) refused(cause Cause, reason byte) End {
	state := Refused
	if o.cfg.DeadLetters {
		state = DeadLettered
	}
	return End{State: state, Cause: cause, Reason: reason}
}

// topicOf reads the topic of a message that ends. It returns "" if the message has already ended in
// the store.
func (o *Outbox) topicOf(seq uint64) string {
	var e persistence.Entry
	if ok, err := o.cfg.Store.Get(seq, &e); !ok || err != nil {
		return ""
	}
	return string(wire.ImageTopic(e.Packet))
}

// storeFailed reports an error of the store and schedules the next attempt after storeRetry.
func (o *Outbox) storeFailed(err error) verdict {
	o.cfg.StoreFailed(err)
	o.lookAgain(storeRetry)
	return stopped
}

// lookAgain wakes the send loop after the given time, or earlier.
func (o *Outbox) lookAgain(after time.Duration) {
	if after <= 0 || after == math.MaxInt64 {
		return
	}
	if at := time.Now().Add(after); o.againAt.IsZero() || at.Before(o.againAt) {
		o.againAt = at
		o.again.Reset(after)
	}
}

// Close ends the outbox. The caller must wait until Run has returned and the connection has ended.
// Close lowers the store's sent watermark to what was really sent. Open messages end as Abandoned
// with err. Close does not close the store.
func (o *Outbox) Close(err error) {
	o.answerRefusals(nil)
	o.endAll()
	if failed := o.sent.lower(o.cfg.Store); failed != nil {
		o.cfg.StoreFailed(failed)
	}
	o.open.abandon(err)
}
