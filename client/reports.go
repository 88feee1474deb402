package client

import (
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/persistence"
)

// reports is what the client reports: counters, and events until Stopped. Hooks on
// the stages of a message belong here too.
type reports struct {
	counters
	findings []Finding   // of Config.Lint
	stopped  atomic.Bool // Stopped was reported
}

// counters are counted by the client itself.
type counters struct {
	connections, connectFailures atomic.Uint64
	sessionsLost, storeFailures  atomic.Uint64
	policyDrops                  atomic.Uint64
}

// event reports e, unless Stopped was reported: that is the last event.
func (c *Client) event(e Event) {
	if c.cfg.OnEvent == nil || c.reports.stopped.Load() {
		return
	}
	if _, last := e.(Stopped); last {
		c.reports.stopped.Store(true)
	}
	if p := c.guard.Call(func() { c.cfg.OnEvent(e) }); p != nil {
		c.cfg.Logger.Error("function of the application panicked", "function", "OnEvent", "panic", p.Value, "stack", string(p.Stack))
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
