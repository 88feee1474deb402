package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// life is the life of a client. It begins with New, runs from Start, and ends once.
type life struct {
	phase  phaseTracker
	ending context.Context // ends when the client begins to end; later calls return its cause as their error
	end    context.CancelCauseFunc
	done   chan struct{} // closed when all goroutines have ended
	reads  chan struct{} // limits the goroutines that read receipts: on a disk that hangs, they do not end

	starting                           sync.WaitGroup // reads set-aside messages, then begins the tasks
	connecting, sending, acknowledging task           // from Start

	mu         sync.Mutex
	started    bool
	begun      bool // the tasks have begun
	draining   bool
	ended      bool              // the end has begun
	err        error             // why the client stopped; nil after Close and Drain
	disconnect DisconnectOptions // of a clean end
	deadline   time.Time         // deadline of the steps of teardown; used only by the goroutine of teardown
	closeErr   error             // error of closing the store; set before done is closed
}

func (l *life) init() {
	l.done, l.reads = make(chan struct{}), make(chan struct{}, 8)
	l.ending, l.end = context.WithCancelCause(context.Background())
	l.phase.enter(ConnectionState{Phase: PhaseIdle})
}

// task is a goroutine of the client with one way to stop it.
type task struct {
	sync.WaitGroup
	stop context.CancelFunc
}

// begin starts a task, which may call functions of the application.
func (c *Client) begin(t *task, f func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	c.run(&t.WaitGroup, func() { f(ctx) })
}

// Close ends the client and returns when all its goroutines have ended. Close waits for running
// handlers, acknowledges handled messages, publishes the offline status and sends DISCONNECT. Close
// waits at most CloseTimeout, and up to 1 s more if handlers need all of CloseTimeout. The contexts
// of handlers end after CloseTimeout. Pending messages stay in the store, and the outcome in their
// Deliveries is Abandoned.
//
// Close returns a *CloseTimeoutError if the disk does not answer by then, or if a handler or
// another function of the application has not returned. The client ends as soon as these calls have
// returned, see Done. Dir remains in use until then.
//
// In a handler, in OnEvent or in another function that this client calls, Close returns at once.
// The client ends after that function has returned, see Done.
func (c *Client) Close() error { return c.CloseWith(DisconnectOptions{}) }

// CloseWith does the same as Close, with options for the DISCONNECT. If an option is invalid,
// CloseWith returns a *FieldError, and the client continues. If the client is already ending, o has
// no effect.
func (c *Client) CloseWith(o DisconnectOptions) error {
	if c == nil {
		return ErrNilClient
	}
	if err := o.check(c.cfg.Session.Expiry); err != nil {
		return err
	}
	c.end(nil, &o)
	if c.guard.Inside() {
		return nil
	}
	most := c.cfg.Connection.CloseTimeout + time.Second
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-c.life.done:
	case <-timer.C:
		select {
		case <-c.life.done:
		default:
			return &CloseTimeoutError{After: most}
		}
	}
	return c.life.closeErr
}

// Drain waits until all accepted messages have an outcome, and then ends the client. After Drain is
// called, Publish returns ErrDraining.
//
// If ctx ends first, or the client fails, the error is a *DrainError with the number of messages
// that stay in the store. If the server refuses all remaining messages for more than 10 s, the
// error is a *DrainError too, and its cause is a *DeferredError. In all these cases, Drain closes
// the client as Close does. In a handler, in OnEvent or in another function that this client calls,
// the client ends after that function has returned.
func (c *Client) Drain(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	c.life.mu.Lock()
	if !c.life.draining && !c.life.ended {
		c.life.draining = true
		c.outbox.Refuse(ErrDraining)
	}
	started := c.life.started
	c.life.mu.Unlock()
	c.inbox.StopStalling()                                                  // a stalled reader would hold back acknowledgements
	cause := errors.New("client: not started; call Start to send messages") // no message will be sent
	if started {
		if cause = c.outbox.WaitIdle(ctx); cause != nil && ctx.Err() != nil {
			cause = waitEnded(cause, c.State().Err)
		}
		if d := (*outbox.DeferredError)(nil); errors.As(cause, &d) {
			cause = &DeferredError{Messages: d.Messages, Since: d.Oldest, Code: d.Code}
		}
	}
	err := c.Close()
	left := c.store.Stats().Pending
	if cause != nil && left > 0 {
		return &DrainError{Pending: int(left), Cause: cause}
	}
	return err
}

// end starts the end of the client. Only the first call has an effect. If disconnect is nil, the
// client sends no DISCONNECT.
func (c *Client) end(cause error, disconnect *DisconnectOptions) {
	l := &c.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended, l.err = true, cause
	if disconnect != nil {
		l.disconnect = *disconnect
	}
	l.phase.enter(ConnectionState{Phase: PhaseEnding, Err: cause})
	if cause == nil {
		cause = ErrClosed
	}
	c.outbox.Stop(cause)
	l.end(cause)
	c.inbox.StopStalling()
	go c.teardown(l.begun, disconnect != nil)
}

// teardown ends the parts of the client in this order: sending, handlers, offline status,
// acknowledgements of handled messages, DISCONNECT, connection, store. If the end is not clean,
// teardown ends the connection first.
func (c *Client) teardown(started, clean bool) {
	defer c.guard.Enter()()
	l := &c.life
	l.starting.Wait() // it begins no task any more
	l.deadline = time.Now().Add(c.cfg.Connection.CloseTimeout)
	unhandled := 0
	if started {
		if !clean {
			l.connecting.stop()
		}
		l.sending.stop()
		grace := time.Duration(0)
		if clean {
			grace = c.cfg.Connection.CloseTimeout
		}
		unhandled = c.inbox.Stop(grace)
		if least := time.Now().Add(disconnectTime); l.deadline.Before(least) {
			l.deadline = least
		}
		if up := c.link.Current(); up != nil && clean {
			c.within(up, l.sending.Wait)
			c.views.end()
			if up.SessionExpiry > 0 { // otherwise the session would collect messages for closed views
				ctx, cancel := context.WithTimeout(context.Background(), l.timeLeft())
				c.subs.AwaitRemovals(ctx)
				cancel()
			}
			c.disconnect(up)
		}
		l.connecting.stop()
		l.acknowledging.stop()
		l.sending.Wait()
		l.acknowledging.Wait()
		l.connecting.Wait()
	}
	c.views.end()
	c.views.awaitCalls(l.timeLeft())
	c.views.losses.wait()
	c.outbox.Close(safe.Unknown(context.Cause(l.ending))) // the store keeps the messages
	c.abandoned(unhandled)
	l.closeErr = errors.Join(c.closeStore(), c.aside.close())
	err := c.Err()
	l.phase.enter(ConnectionState{Phase: PhaseEnded, Err: err})
	c.reports.losses.Close()
	c.reports.notices.finish(Stopped{Err: err}, l.timeLeft())
	c.guard.End()
	close(l.done)
}

// closeStore closes the store, unless it is a custom one.
func (c *Client) closeStore() error {
	if c.cfg.Store.Custom == nil {
		return c.store.Close()
	}
	return c.store.Sync()
}

const (
	// disconnectTime is the time for acknowledgements, offline status and DISCONNECT if handlers
	// have used up CloseTimeout.
	disconnectTime = 700 * time.Millisecond
	// stepTime is the minimum time of a step of teardown.
	stepTime = 100 * time.Millisecond
)

// timeLeft returns how long the next step of teardown may take.
func (l *life) timeLeft() time.Duration { return max(stepTime, time.Until(l.deadline)) }

// within closes the connection if f takes too long, so that the client does not wait for a peer
// that does not read.
func (c *Client) within(up *link.Up, f func()) {
	defer time.AfterFunc(c.life.timeLeft(), func() { _ = up.Close() }).Stop()
	f()
}

// disconnect ends a connection cleanly: offline status, acknowledgements, DISCONNECT. If the server
// did not acknowledge the offline status, the DISCONNECT makes the server publish the will.
func (c *Client) disconnect(up *link.Up) {
	o := c.life.disconnect
	if c.cfg.Presence.Status != nil && !c.endStatus(up, o.Reason == wire.ReasonSuccess) && o.Reason == wire.ReasonSuccess {
		o.Reason = wire.ReasonDisconnectWithWill
	}
	// The offline status may wait until acknowledgements are sent, so the acknowledging task stops
	// afterwards.
	c.life.acknowledging.stop()
	c.within(up, c.life.acknowledging.Wait)
	if c.identity.Temporary() && up.SessionExpiry > 0 {
		o.SessionExpiry = NoSession // no client can resume the session of a random ClientID
	}
	last := link.Disconnect{Reason: o.Reason, ReasonString: o.ReasonString, User: o.UserProperties}
	if o.SessionExpiry != 0 {
		expiry := wire.Seconds(max(o.SessionExpiry, 0))
		last.SessionExpiry = &expiry
	}
	c.within(up, func() { _ = up.Disconnect(last) }) // an error changes nothing: the connection ends
}

// leaveNew waits until OnEvent has received the events of New, so that OnEvent does not run while
// the application stores the client. If New failed, leaveNew ends the parts that New started.
func leaveNew(c *Client, made *bool) {
	c.reports.notices.queue.Wait()
	if !*made {
		c.reports.losses.Close()
		c.guard.End()
	}
}
