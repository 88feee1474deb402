package client

import (
	"log/slog"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Stats is a snapshot of a client's counters. The counters begin at 0 when New is called. The
// counters in Store begin when the store is created.
type Stats struct {
	Store   persistence.Stats // at every moment accepted = acked + refused + expired + dropped + dead-lettered + pending
	Breaker reliability.BreakerStats
	Status  StatusStats

	Connections     uint64 // accepted connections (CONNACK)
	ConnectFailures uint64
	SessionsLost    uint64 // how often the server had lost the session
	// SessionsDiscarded counts sessions that were discarded because of ErrUnknownSession.
	SessionsDiscarded uint64
	SessionsAdopted   uint64 // sessions resumed that the store did not know, see SessionAdopted
	PurgesGivenUp     uint64 // how often the server did not answer PUBREL, see PurgeGivenUp
	SessionsStuck     uint64 // how often the session was stuck, so that only a new session could help, see SessionStuck
	InFlight          int    // messages sent and not acknowledged
	PolicyDrops       uint64 // messages dropped by WhenFull or Conflate; Store counts them by cause
	Unnumbered        uint64 // messages sent without a sequence number, see MessageUnnumbered
	Deferrals         uint64 // how often messages were deferred, see MessageDeferred
	FailedInFlight    uint64 // messages that ended with ErrSessionLost, see FailInFlight
	Abandoned         uint64 // messages lost when the client closed, see MessagesAbandoned
	// SendWindow limits the messages in flight after the server refused some because of a quota
	// (0x97). The limit grows with each acknowledgement. If it is 0, only the server's Receive
	// Maximum limits the messages in flight.
	SendWindow int
	Deferred   DeferredStats

	Received   uint64 // messages from the server
	Handled    uint64 // messages that were accepted by all their handlers
	Duplicates uint64 // messages suppressed as duplicates
	Late       uint64 // messages dropped after they had been reported as missing (ordering.DropLate)
	OutOfOrder uint64 // messages handled with Message.OutOfOrder
	// NumbersReused counts messages with a new ID whose sequence number was used before, see
	// [NumberReused]. NumbersRepeated counts dropped messages without an ID, see [NumberRepeated].
	NumbersReused, NumbersRepeated uint64
	Redelivered                    uint64        // messages received again while a handler was working on them
	Gaps                           uint64        // ranges of missing messages
	Failed                         uint64        // handler calls that returned an error or panicked
	Refused                        uint64        // messages refused after their last attempt
	Unhandled                      uint64        // messages without a handler
	SetAside                       uint64        // messages put into the list of set-aside messages
	ReceivedExpired                uint64        // messages not handled because they had expired
	NotDeduplicated                uint64        // messages handled without a dedupe key although Dedupe is set, see NotDeduplicated
	PayloadsInvalid                uint64        // messages refused because of their Payload Format Indicator
	ReceiveBlocked                 uint64        // how often one message blocked all others, see ReceiveBlocked
	HandlersSlow                   uint64        // how often a running handler call was reported as slow, see HandlerSlow
	HandlersSlowNow                int           // handler calls that have now taken longer than SlowHandlerAfter
	LongestHandler                 time.Duration // duration of the longest handler call that runs now; 0 if SlowHandlerAfter is negative
	SetAsideNow                    int           // messages in the list of set-aside messages
	SetAsideBytes                  int64         // bytes of these messages
	DroppedQoS0                    uint64        // QoS 0 messages dropped because a queue or the buffer was full, or the client was closing

	LostQoS0 uint64 // published QoS 0 messages that were lost with a connection, see QoS0Lost

	InboundBytes int64  // bytes of received messages that are not finished, see ReceivingConfig.MaxBufferedBytes
	ReadStalls   uint64 // how often reading stopped because the buffer was full

	LeftToServer uint64 // how often messages were left to the server, see ReadStalled

	SubscriptionFailures    uint64 // subscriptions refused or ended by the server
	SubscriptionsDowngraded uint64 // subscriptions granted at a lower QoS
	StatusFailures          uint64 // refusals of status messages and of the subscription to the status topic
	MarkerFailures          uint64 // refusals of MarkerTopic
	ViewRefused             uint64 // messages and devices that exceeded the limits of watches and mirrors
	ChangesMissed           uint64 // changes dropped because a reader was too slow
	EventsMissed            uint64 // dropped events, see the event EventsMissed
	Panics                  uint64 // panics of the application's functions, including handlers

	UnknownAcks   uint64 // acknowledgements with an unused packet identifier
	StaleAcks     uint64 // acknowledgements and results of an earlier connection
	StoreFailures uint64
	StoreRenewals uint64 // 1 if the store began a new epoch when it was opened, see StoreRenewed
}

// LogValue implements slog.LogValuer. It returns the counters that an operator watches, see
// docs/guides/operating.md. Except for the first four, it leaves out counters that are 0.
func (s Stats) LogValue() slog.Value {
	p := &s.Store
	attrs := []slog.Attr{
		slog.Uint64("pending", p.Pending), slog.Int("in_flight", s.InFlight),
		slog.Uint64("acked", p.Acked), slog.Uint64("handled", s.Handled),
	}
	for _, c := range []struct {
		name  string
		value uint64
	}{
		{"pending_bytes", uint64(p.PendingBytes)}, {"disk_bytes", uint64(p.DiskBytes)},
		{"pending_high", p.PendingOf[High]}, {"pending_urgent", p.PendingOf[Urgent]}, {"deferred", p.Deferred},
		{"policy_drops", s.PolicyDrops}, {"expired", p.Expired}, {"refused", p.Refused}, {"dead_lettered", p.DeadLettered},
		{"inbound_bytes", uint64(s.InboundBytes)}, {"read_stalls", s.ReadStalls}, {"receive_blocked", s.ReceiveBlocked},
		{"failed", s.Failed}, {"set_aside_now", uint64(s.SetAsideNow)}, {"gaps", s.Gaps},
		{"sessions_lost", s.SessionsLost}, {"connect_failures", s.ConnectFailures}, {"corruptions", p.Corruptions},
	} {
		if c.value > 0 {
			attrs = append(attrs, slog.Uint64(c.name, c.value))
		}
	}
	if p.Degraded {
		attrs = append(attrs, slog.Bool("degraded", true))
	}
	return slog.GroupValue(attrs...)
}

// DeferredStats describes the messages that the server refuses for now, and the messages that wait
// for these. All of them are pending.
type DeferredStats struct {
	Messages int
	Bytes    int64     // size of the packets of these messages
	Topics   int       // topics with such messages, counted once per priority
	Oldest   time.Time // when the first of these topics was refused; zero if there is no such topic
	Code     byte      // last reason code for the topic that Oldest describes
}

// Stats returns a snapshot of the client's counters.
func (c *Client) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	ss := c.session.Stats()
	in := &c.inbox.Counters
	n := &c.reports
	st := Stats{
		Store: c.store.Stats(), Breaker: c.breaker.Stats(), Status: StatusStats(c.status.Stats()),
		Connections: n.connections.Load(), ConnectFailures: n.count(lossConnect, lossUnknownSession, lossAdopted),
		SessionsLost: n.count(lossSession), SessionsDiscarded: n.count(lossUnknownSession), SessionsAdopted: n.count(lossAdopted), PurgesGivenUp: n.count(lossPurge), SessionsStuck: n.count(lossStuck),
		PolicyDrops: n.count(lossFull, lossUrgent, lossConflated), Unnumbered: n.count(lossUnnumbered), Deferrals: n.count(lossDeferred), FailedInFlight: n.count(lossWithSession), Abandoned: n.abandoned.Load(),
		Received: in.Received.Load(), Handled: in.Handled.Load(), Duplicates: in.Duplicates.Load(), Late: in.Late.Load(), OutOfOrder: in.OutOfOrder.Load(), NumbersReused: in.Reused.Load(), NumbersRepeated: in.Repeated.Load(), Redelivered: ss.Redelivered,
		Gaps: in.Gaps.Load(), Failed: in.Failed.Load(), Refused: in.Refused.Load(), Unhandled: in.Unhandled.Load(), SetAside: in.SetAside.Load(), ReceivedExpired: in.Expired.Load(), NotDeduplicated: n.count(lossNoKey), PayloadsInvalid: n.count(lossPayload), ReceiveBlocked: n.count(lossBlocked),
		DroppedQoS0: in.DroppedQoS0.Load(), LostQoS0: n.lostQoS0.Load(),
		InboundBytes: in.Bytes.Load(), ReadStalls: in.Stalls.Load(), LeftToServer: n.count(lossLeft),
		SubscriptionFailures: n.count(lossSubscription), SubscriptionsDowngraded: n.count(lossDowngraded), StatusFailures: n.count(lossStatus), MarkerFailures: n.count(lossMarker),
		ViewRefused: n.viewRefused.Load(), ChangesMissed: n.changesMissed.Load(), EventsMissed: n.notices.missed.Load(), Panics: n.count(lossPanic) + n.loggerPanics.Load(),
		UnknownAcks: ss.UnknownAcks, StaleAcks: ss.StaleAcks, StoreFailures: n.count(lossStore), StoreRenewals: n.count(lossCopied, lossRenewed),
	}
	st.SetAsideNow, st.SetAsideBytes = c.aside.size()
	st.HandlersSlow = n.count(lossSlow)
	st.HandlersSlowNow, st.LongestHandler = c.inbox.Slow()
	d := c.outbox.Deferred()
	st.Deferred, st.SendWindow = DeferredStats{d.Messages, d.Bytes, d.Topics, d.Oldest, d.Code}, c.outbox.Window()
	if up := c.link.Current(); up != nil {
		st.InFlight = up.Gen.InFlight()
	}
	return st
}
