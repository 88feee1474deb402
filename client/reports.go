package client

import (
	"errors"
	"strings"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/persistence"
)

// reports is what the client reports: counters, and events until Stopped. Hooks on
// the stages of a message belong here too.
type reports struct {
	findings []Finding   // of Config.Lint
	stopped  atomic.Bool // Stopped was reported

	connections, connectFailures             atomic.Uint64
	sessionsLost, storeFailures, policyDrops atomic.Uint64
}

// event reports e, unless Stopped was reported: that is the last event.
func (c *Client) event(e Event) {
	if c.cfg.OnEvent == nil || c.reports.stopped.Load() {
		return
	}
	if _, last := e.(Stopped); last {
		c.reports.stopped.Store(true)
	}
	c.panicked("OnEvent", c.guard.Call(func() { c.cfg.OnEvent(e) }))
}

// panicked logs a panic of a function of the application; nil: there was none.
func (c *Client) panicked(function string, p *callback.Panic) {
	if p != nil {
		c.cfg.Logger.Error("function of the application panicked", "function", function, "panic", p.Value, "stack", string(p.Stack))
	}
}

// corrupted reports damage of the log, and ends the message that was lost with it.
func (c *Client) corrupted(x persistence.Corruption) {
	c.cfg.Logger.Error("store is damaged", "file", x.File, "offset", x.Offset, "error", x.Err)
	c.event(StoreDamaged{x})
	if x.Seq != 0 {
		c.outbox.Damaged(x.Seq, &DamagedError{x})
	}
}

// storeFailed reports an error of the store or of the dedupe cache.
func (c *Client) storeFailed(err error) {
	c.reports.storeFailures.Add(1)
	c.cfg.Logger.Error("store failed", "error", err)
	c.event(StoreFailed{Err: err})
}

// subscriptionResult takes what became of a subscription that no caller waits for.
func (c *Client) subscriptionResult(r subs.Result) {
	switch r.Owner {
	case subs.Application:
		c.subscriptionFailed(r)
	case subs.Status:
		// An end that is refused only leaves messages that come twice.
		if !r.Ended && c.status.Subscribed(r.Err == nil) {
			c.event(StatusFailed{Err: &StatusSubscriptionError{Err: refusedError(r.Err)}})
		}
	default:
		if r.Ended {
			c.subscriptionFailed(r)
		}
		c.views.result(r)
	}
}

func (c *Client) subscriptionFailed(r subs.Result) {
	if r.Err != nil {
		c.event(SubscriptionFailed{Filter: r.Want.Filter, Err: refusedError(r.Err)})
	}
}

// logFindings tells the program's log what Lint found.
func (c *Client) logFindings() {
	for _, f := range c.reports.findings {
		log := c.cfg.Logger.Warn
		if f.Severity == Note {
			log = c.cfg.Logger.Info
		}
		log("configuration: "+f.Problem, "finding", f.Name, "severity", f.Severity.String(), "fields", strings.Join(f.Fields, ","), "fix", f.Fix)
	}
}

// messageEnded counts and reports the end of a stored message.
func (c *Client) messageEnded(e outbox.End) {
	id := MessageID(e.ID)
	switch {
	case e.State == outbox.Expired:
		c.event(MessageExpired{ID: id})
	case e.Cause == outbox.StoreFull || e.Cause == outbox.Replaced:
		c.reports.policyDrops.Add(1)
		c.event(MessageDropped{ID: id, Cause: errors.Unwrap(e.Err)})
	case e.State == outbox.Refused || e.State == outbox.DeadLettered || e.Cause == outbox.SessionLost:
		c.event(MessageRefused{ID: id, Err: e.Err, DeadLetter: e.State == outbox.DeadLettered})
	}
}
