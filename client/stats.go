package client

import (
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// counters are what the client counts itself.
type counters struct {
	connections, connectFailures         atomic.Uint64
	received, handled, failed, refused   atomic.Uint64
	late, sessionsLost                   atomic.Uint64
	duplicates, unhandled, dropped, gaps atomic.Uint64
	storeFailures, policyDrops           atomic.Uint64
	settled                              chan struct{} // a message has its outcome
}

// Stats is a snapshot of what a client has done. Counts are since New, except
// Store's, which are since the store was created.
type Stats struct {
	Store   persistence.Stats // accepted = acked + refused + expired + dropped + dead-lettered + pending, always
	Breaker reliability.BreakerStats
	Status  StatusStats

	Connections     uint64 // CONNACKs that accepted
	ConnectFailures uint64
	SessionsLost    uint64 // times the server had no session for us although it should have had one
	InFlight        int    // sent and not acknowledged
	PolicyDrops     uint64 // messages given up by WhenFull or Conflate; Store has them by cause

	Received    uint64 // messages from the server
	Handled     uint64 // messages that their handlers accepted
	Duplicates  uint64 // messages dropped because they were handled before
	Late        uint64 // messages dropped because they came when their gap had been given up (ordering.DropLate)
	Redelivered uint64 // messages that came again while their handler had them
	Gaps        uint64 // ranges of messages that are missing
	Failed      uint64 // handler calls that returned an error or panicked
	Refused     uint64 // messages that we refused, in the end
	Unhandled   uint64 // messages that no handler was declared for
	DroppedQoS0 uint64 // QoS 0 messages that came too fast, or while closing

	InboundBytes int64  // of received messages that are with us now, see Config.Receiving.MaxBufferedBytes
	ReadStalls   uint64 // times that reading stopped because they were too many

	UnknownAcks   uint64 // acknowledgements for packet identifiers not in use
	StaleAcks     uint64 // acknowledgements and results of an older connection
	StoreFailures uint64
}

// Stats returns a snapshot.
func (c *Client) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	var ss session.Stats = c.session.Stats()
	n := &c.counters
	st := Stats{
		Store: c.store.Stats(), Breaker: c.breaker.Stats(), Status: c.announcer.plan.snapshot(),
		Connections: n.connections.Load(), ConnectFailures: n.connectFailures.Load(), SessionsLost: n.sessionsLost.Load(), PolicyDrops: n.policyDrops.Load(),
		Received: n.received.Load(), Handled: n.handled.Load(), Duplicates: n.duplicates.Load(), Late: n.late.Load(), Redelivered: ss.Redelivered,
		Gaps: n.gaps.Load(), Failed: n.failed.Load(), Refused: n.refused.Load(), Unhandled: n.unhandled.Load(), DroppedQoS0: n.dropped.Load(),
		UnknownAcks: ss.UnknownAcks, StaleAcks: ss.StaleAcks, StoreFailures: n.storeFailures.Load(),
	}
	st.InboundBytes, st.ReadStalls = c.inbound.used.Load(), c.inbound.stalls.Load()
	if up := c.current(); up != nil {
		st.InFlight = up.Gen.InFlight()
	}
	return st
}

// corrupted passes on that the log is damaged. A message that it had to give up
// has its outcome.
func (c *Client) corrupted(x persistence.Corruption) {
	c.cfg.Logger.Error("store is damaged", "file", x.File, "offset", x.Offset, "error", x.Err)
	c.event(StoreDamaged{x})
	if x.Seq == 0 {
		return
	}
	m := c.pending.settle(x.Seq)
	if m.report != nil {
		m.report(errNotTried)
	}
	m.delivery.resolve(Outcome{State: Dropped, Err: &DamagedError{x}})
	c.drained()
}

func (c *Client) storeFailed(err error) {
	c.counters.storeFailures.Add(1)
	c.cfg.Logger.Error("store failed", "error", err)
	c.event(StoreFailed{Err: err})
}
