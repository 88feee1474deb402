package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// begin starts a task, which may call functions of the application.
func (c *Client) begin(t *task, f func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	c.run(&t.WaitGroup, func() { f(ctx) })
}

// Close ends the client and returns when all its goroutines have ended. Close starts no further
// handler and waits for running handlers. It then acknowledges handled messages, publishes the
// offline status and sends DISCONNECT. Close waits at most CloseTimeout, and up to 1 s more if
// handlers need all of CloseTimeout. The contexts of handlers end after CloseTimeout.
//
// While handlers run, and at most for CloseTimeout, Publish accepts messages and the client sends
// them. After that, Publish returns ErrClosed. Close does not wait until messages have been sent.
// Pending messages stay in the store, and the outcome in their Deliveries is Abandoned. With
// Config.Dir, the next process sends them. A store in memory loses them with the process, and
// MessagesAbandoned reports their number. Call Drain to send them first.
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

// Drain waits for running handlers, then waits until all accepted messages have an outcome, and
// then ends the client. While handlers run, Publish accepts messages, and Drain sends them too.
// After that, Publish returns ErrDraining. Drain starts no further handler. Messages that arrive
// meanwhile are not acknowledged, so the server redelivers those of QoS 1 and 2 in the next
// connection of the session.
//
// If ctx ends before that, or the client fails, the error is a *DrainError with the number of
// messages that stay in the store. If the server refuses all remaining messages for more than 10 s,
// the error is a *DrainError too, and its cause is a *DeferredError. In all these cases, Drain
// closes the client as Close does, and running handlers have CloseTimeout to return. After ctx has
// ended, Drain returns within CloseTimeout plus 1 s. A later call of Close adds no time, unless the
// error is a *CloseTimeoutError. While the client is not connected, Drain waits until ctx ends. To
// stop at once instead, call Close.
//
// In a handler, in OnEvent or in another function that this client calls, Drain does not wait for
// handlers. Publish then returns ErrDraining, except inside such functions. The client ends after
// the function that called Drain has returned.
func (c *Client) Drain(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	started, unfinished := stopHandling(ctx, c)
	cause := errors.New("client: not started; call Start to send messages") // no message will be sent
	if started {
		if cause = unfinished; cause == nil {
			cause = c.outbox.WaitIdle(ctx)
		}
		if cause != nil && ctx.Err() != nil {
			cause = waitEnded(cause, c.State().Err)
		}
		if d := (*outbox.DeferredError)(nil); errors.As(cause, &d) {
			cause = &DeferredError{Messages: d.Messages, Since: d.Oldest, Code: d.Code}
		}
	}
	err := c.Close()
	left := c.store.Stats().Pending
	if cause != nil && left > 0 || unfinished != nil && err == nil {
		return &DrainError{Pending: int(left), Cause: cause}
	}
	return err
}

// stopHandling is the first step of Drain: no further handler begins, running handlers end, and then
// Publish returns ErrDraining. stopHandling does not wait in a function that the client calls, which
// may be a handler. It reports whether the client was started. If ctx ends before the handlers have
// returned, it returns an error.
func stopHandling(ctx context.Context, c *Client) (started bool, unfinished error) {
	l := &c.life
	inside := c.guard.Inside()
	l.mu.Lock()
	if !l.ended {
		l.draining = true
		switch {
		case !l.begun: // no handler runs
			c.outbox.Refuse(ErrDraining, nil)
		case inside && c.outbox.Refused() == nil:
			c.outbox.Refuse(ErrDraining, c.guard.Inside)
		}
	}
	started = l.started
	wait := l.begun && !inside
	l.mu.Unlock()
	c.inbox.StopStalling() // a stalled reader would hold back acknowledgements
	idle := c.inbox.Quiesce()
	if !wait {
		return started, nil
	}
	select {
	case <-idle:
	case <-l.ending.Done(): // teardown waits for the handlers
		return started, nil
	case <-ctx.Done(): // handlers may publish until Close ends them
		if !c.inbox.Handling() {
			return started, nil
		}
		return started, fmt.Errorf("handlers have not returned: %w", context.Cause(ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		c.outbox.Refuse(ErrDraining, nil)
	}
	return started, nil
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
	if disconnect == nil || !l.begun { // otherwise handlers may publish
		c.outbox.Stop(cause)
	}
	l.end(cause)
	c.inbox.StopStalling()
	go c.teardown(l.begun, disconnect != nil)
}

// teardown ends the parts of the client in this order: handlers, sending, offline status,
// acknowledgements of handled messages, DISCONNECT, connection, store. If the end is not clean,
// teardown ends the connection and sending first.
func (c *Client) teardown(started, clean bool) {
	defer c.guard.Enter()()
	l := &c.life
	l.starting.Wait() // it begins no task any more
	l.deadline = time.Now().Add(c.cfg.Connection.CloseTimeout)
	unhandled := 0
	if started {
		unhandled = endHandlers(c, clean)
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

// endHandlers ends the handlers, and then publishing and sending. If the end is clean, handlers have
// CloseTimeout to publish and return. It returns the number of unhandled messages.
func endHandlers(c *Client, clean bool) (unhandled int) {
	l := &c.life
	stop := func() {
		c.outbox.Stop(context.Cause(l.ending))
		l.sending.stop()
	}
	if clean {
		grace := c.cfg.Connection.CloseTimeout
		defer time.AfterFunc(grace, stop).Stop() // a handler may ignore that its context has ended
		unhandled = c.inbox.Stop(grace)
		stop()
		return unhandled
	}
	l.connecting.stop()
	stop()
	return c.inbox.Stop(0)
}

// closeStore closes the store, unless it is a custom one.
func (c *Client) closeStore() error {
	if c.cfg.Store.Custom == nil {
		return c.store.Close()
	}
	return c.store.Sync()
}

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
