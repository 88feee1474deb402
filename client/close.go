package client

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/safe"
)

// Close ends the client and returns when all its goroutines have ended. Running
// handlers finish, handled messages are acknowledged, the status goes offline, and
// the server gets a DISCONNECT; all that takes at most CloseTimeout, and up to a
// second more if handlers use it up. Then the contexts of handlers end. Pending
// messages stay in the store, and their Deliveries end as Abandoned.
//
// Called from a handler, from OnEvent or from another function that this client
// calls, Close returns at once and the client ends after that function has
// returned, see Done. Close of another client waits there as everywhere.
func (c *Client) Close() error {
	if c == nil {
		return ErrNilClient
	}
	return c.closeWith(DisconnectOptions{})
}

func (c *Client) closeWith(g DisconnectOptions) error {
	c.end(nil, &g)
	if c.guard.Inside() {
		return nil
	}
	<-c.done
	return c.closeErr()
}

// Drain ends the client when all that it accepted has an outcome. Publish
// refuses new messages from here on. If ctx ends first, or the client fails,
// the error is a *DrainError that says how many messages stay in the store.
// Either way the client is closed when Drain returns.
func (c *Client) Drain(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	c.mu.Lock()
	if c.state < draining {
		c.state = draining
		c.outbox.Refuse(ErrDraining)
	}
	c.mu.Unlock()
	c.inbox.StopStalling() // acknowledgements may be behind a stalled reader
	var cause error
	if !c.started() {
		cause = errNotStarted // nothing will ever be sent
	}
	if cause == nil {
		cause = c.outbox.WaitIdle(ctx)
	}
	err := c.Close()
	left := c.store.Stats().Pending
	if cause != nil && left > 0 {
		return &DrainError{Pending: int(left), Cause: cause}
	}
	return err
}

var errNotStarted = errors.New("client: it was never started")

func (c *Client) started() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopLink != nil
}

// abort ends the client without DISCONNECT.
func (c *Client) abort(cause error) { c.end(cause, nil) }

// fail stops the client because going on is no use.
func (c *Client) fail(err error) {
	c.cfg.Logger.Error("client stopped", "error", err)
	c.end(err, nil)
}

// end begins the end, a clean one if there is a goodbye; only the first call counts.
func (c *Client) end(cause error, g *DisconnectOptions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state >= closing {
		return
	}
	started := c.stopLink != nil
	c.state, c.err = closing, cause
	c.phase.enter(ConnectionState{Phase: PhaseEnding, Err: cause})
	if cause == nil {
		cause = ErrClosed
	}
	c.outbox.Stop(cause)
	c.beginEnd(cause)
	c.inbox.StopStalling()
	if g != nil {
		c.farewell = *g
	}
	go c.teardown(started, g != nil)
}

// teardown ends everything, from the inside out: no new sends, then the
// handlers, then, behind the last word of the status, the acknowledgements of what
// they handled, then the connection, then the store. Where there is no time for
// that the connection goes first.
func (c *Client) teardown(started, clean bool) {
	defer c.guard.Enter()()
	c.endBy = time.Now().Add(c.cfg.Connection.CloseTimeout)
	if started {
		if !clean {
			c.stopLink()
		}
		c.stopDrain()
		grace := time.Duration(0)
		if clean {
			grace = c.cfg.Connection.CloseTimeout
		}
		c.inbox.Stop(grace)
		if soon := time.Now().Add(lastWords); c.endBy.Before(soon) {
			c.endBy = soon
		}
		if up := c.current(); up != nil && clean {
			c.within(up, c.work.Wait)
			c.views.close()
			c.endSubscriptions(up)
			c.goodbye(up)
		}
		c.stopLink()
		c.stopAcks()
		c.work.Wait()
		c.answering.Wait()
		c.linking.Wait()
	}
	c.views.close()
	c.views.wait(c.patience())
	err := c.Err()
	if err == nil {
		err = ErrClosed
	}
	c.outbox.Close(safe.Unknown(err)) // the store keeps the messages
	if c.ownStore {
		err = c.store.Close()
	} else {
		err = c.store.Sync()
	}
	c.mu.Lock()
	c.state, c.storeErr = closed, err
	cause := c.err
	c.mu.Unlock()
	c.phase.enter(ConnectionState{Phase: PhaseEnded, Err: cause})
	c.event(Stopped{Err: cause})
	close(c.done)
}

const (
	// lastWords is what is left of the end when handlers have used up CloseTimeout,
	// for acknowledgements and the goodbye.
	lastWords = 700 * time.Millisecond
	// lastWord is what a step has when those before it have used up all.
	lastWord = 100 * time.Millisecond
)

// patience is how long a step of the end may still take: CloseTimeout is for all of
// them.
func (c *Client) patience() time.Duration { return max(lastWord, time.Until(c.endBy)) }

// endSubscriptions waits until the server has ended the subscriptions of closed views,
// for at most what is left of CloseTimeout: a session that is kept would go on to
// collect messages for them, and have less room for those of the application.
func (c *Client) endSubscriptions(up *link.Up) {
	if up.SessionExpiry > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), c.patience())
		defer cancel()
		c.subs.AwaitRemovals(ctx)
	}
}

// within has the connection closed if f takes too long, so that nothing waits for a
// peer that takes nothing.
func (c *Client) within(up *link.Up, f func()) {
	timer := time.AfterFunc(c.patience(), func() { _ = up.Close() })
	defer timer.Stop()
	f()
}

func (c *Client) closeErr() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.storeErr
}
