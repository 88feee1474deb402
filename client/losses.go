package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// lossKind is a kind of report about a message or a problem. Each kind has a counter in Stats, an
// Event, and a line in the log.
type lossKind int

const (
	lossRefused lossKind = iota
	lossDeadLetter
	lossDeadLetterDropped
	lossWithSession
	lossDeferred
	lossExpired
	lossFull
	lossUrgent
	lossConflated
	lossUnnumbered
	lossAbandoned
	lossHandler
	lossReceived
	lossUnhandled
	lossWaiting
	lossSetAside
	lossReceivedExpired
	lossNoKey
	lossPayload
	lossBlocked
	lossSlow
	lossGap
	lossLate
	lossReused
	lossRepeated
	lossQoS0
	lossUnsent
	lossDuplicate
	lossStalled
	lossLeft
	lossSubscription
	lossDowngraded
	lossMarker
	lossViewFull
	lossChanges
	lossEvents
	lossStatus
	lossContested
	lossStore
	lossDegraded
	lossDamage
	lossCopied
	lossRenewed
	lossPanic
	lossBreaker
	lossSession
	lossUnknownSession
	lossAdopted
	lossStuck
	lossPurge
	lossConnect
)

// lossKinds is the table of the kinds. docs/guides/operating.md has a row for each of them.
var lossKinds = [...]struct {
	name    string // attribute "kind" of its lines; the same in all versions
	text    string // text of its log lines
	event   Event  // type of its event; nil: the kind has no event
	counter string // field of Stats
}{
	lossRefused:           {"message-refused", "message refused: it will not be delivered", MessageRefused{}, "Store.Refused"},
	lossDeadLetter:        {"dead-letter", "message refused and kept as a dead letter", MessageRefused{}, "Store.DeadLettered"},
	lossDeadLetterDropped: {"dead-letter-dropped", "dead letter discarded: there are more than StoreConfig.DeadLetters", DeadLetterDropped{}, "Store.DeadLettersDropped"},
	lossWithSession:       {"failed-in-flight", "message failed: the server lost the session in which it was sent", MessageRefused{}, "FailedInFlight"},
	lossDeferred:          {"message-deferred", "message deferred: it will be sent again later", MessageDeferred{}, "Deferrals"},
	lossExpired:           {"message-expired", "message expired before it was sent", MessageExpired{}, "Store.Expired"},
	lossFull:              {"message-dropped", "message dropped: the store is full", MessageDropped{}, "PolicyDrops"},
	lossUrgent:            {"urgent-dropped", "message of priority High or Urgent dropped: the store is full", MessageDropped{}, "PolicyDrops"},
	lossConflated:         {"message-conflated", "message replaced by a newer message on its topic", MessageDropped{}, "PolicyDrops"},
	lossUnnumbered:        {"message-unnumbered", "message sent without number: MaxStreams topics are numbered", MessageUnnumbered{}, "Unnumbered"},
	lossAbandoned:         {"messages-abandoned", "messages abandoned: the client closed", MessagesAbandoned{}, "Abandoned"},
	lossHandler:           {"handler-failed", "handler failed: the message is handled again", HandlerFailed{}, "Failed"},
	lossReceived:          {"received-refused", "received message refused: its handler failed or refused it", HandlerFailed{}, "Refused"},
	lossUnhandled:         {"unhandled", "received message refused: no handler is declared for its topic", Unhandled{}, "Unhandled"},
	lossWaiting:           {"unhandled-waiting", "received message waits for a handler: none is declared for its topic", Unhandled{}, "Unhandled"},
	lossSetAside:          {"set-aside", "received message set aside: its handler failed, or none is declared for its topic", MessageSetAside{}, "SetAside"},
	lossReceivedExpired:   {"received-expired", "received message not handled: it has expired", ReceivedExpired{}, "ReceivedExpired"},
	lossNoKey:             {"not-deduplicated", "received message handled without deduplication: it has no key, or is retained", NotDeduplicated{}, "NotDeduplicated"},
	lossPayload:           {"payload-invalid", "received message refused: it announces UTF-8, but its payload is not valid UTF-8", PayloadInvalid{}, "PayloadsInvalid"},
	lossBlocked:           {"receive-blocked", "no further message can be received: one message is not acknowledged", ReceiveBlocked{}, "ReceiveBlocked"},
	lossSlow:              {"handler-slow", "handler has not returned: messages of its worker wait", HandlerSlow{}, "HandlersSlow"},
	lossGap:               {"gap", "messages of a publisher are missing", Gap{}, "Gaps"},
	lossLate:              {"late-dropped", "received message dropped: it arrived after its gap was reported", LateDropped{}, "Late"},
	lossReused:            {"number-reused", "received message handled out of order: another message used the same number", NumberReused{}, "NumbersReused"},
	lossRepeated:          {"number-repeated", "received message dropped: its number is known, and it has no message ID", NumberRepeated{}, "NumbersRepeated"},
	lossQoS0:              {"qos0-dropped", "received QoS 0 message dropped: no room, or the client is closing", QoS0Dropped{}, "DroppedQoS0"},
	lossUnsent:            {"qos0-lost", "QoS 0 messages lost: the connection ended before they were written", QoS0Lost{}, "LostQoS0"},
	lossDuplicate:         {"duplicate", "duplicate suppressed", nil, "Duplicates"},
	lossStalled:           {"read-stalled", "reading stalls: received messages take all of MaxBufferedBytes", ReadStalled{}, "ReadStalls"},
	lossLeft:              {"left-to-server", "received messages are left to the server: handlers freed no space within AckTimeout", ReadStalled{}, "LeftToServer"},
	lossSubscription:      {"subscription-failed", "subscription refused or ended by the server", SubscriptionFailed{}, "SubscriptionFailures"},
	lossDowngraded:        {"subscription-downgraded", "server granted a lower QoS than the subscription asked for", SubscriptionDowngraded{}, "SubscriptionsDowngraded"},
	lossMarker:            {"marker-failed", "server does not accept the marker: the end of retained messages is a guess", MarkerFailed{}, "MarkerFailures"},
	lossViewFull:          {"view-full", "retained message or device refused: the view is full", ViewFull{}, "ViewRefused"},
	lossChanges:           {"changes-missed", "changes dropped: their reader is too slow", ChangesMissed{}, "ChangesMissed"},
	lossEvents:            {"events-missed", "events dropped: OnEvent is too slow", EventsMissed{}, "EventsMissed"},
	lossStatus:            {"status-failed", "status message or its subscription not accepted", StatusFailed{}, "StatusFailures"},
	lossContested:         {"status-contested", "another process uses the status topic", StatusContested{}, "Status.Contested"},
	lossStore:             {"store-failed", "store or dedupe cache failed", StoreFailed{}, "StoreFailures"},
	lossDegraded:          {"store-degraded", "disk refuses writes: QoS 1 and 2 messages are not accepted until the disk recovers", StoreDegraded{}, "Store.Outages"},
	lossDamage:            {"store-damaged", "store is damaged", StoreDamaged{}, "Store.Corruptions"},
	lossCopied:            {"store-copied", "store was copied or restored: its session is discarded, and a new epoch begins", StoreRenewed{}, "StoreRenewals"},
	lossRenewed:           {"store-renewed", "store begins a new epoch: its last messages or numbers may be lost", StoreRenewed{}, "StoreRenewals"},
	lossPanic:             {"panic", "function of the application panicked", CallbackPanicked{}, "Panics"},
	lossBreaker:           {"breaker-opened", "circuit breaker opened: messages wait", BreakerChanged{}, "Breaker.Opened"},
	lossSession:           {"session-lost", "server lost the session", SessionLost{}, "SessionsLost"},
	lossUnknownSession:    {"session-discarded", "session at the server discarded, with the messages waiting in it: the store does not know it", ConnectFailed{}, "SessionsDiscarded"},
	lossAdopted:           {"session-adopted", "session at the server adopted, with the messages waiting in it: the store did not know it", SessionAdopted{}, "SessionsAdopted"},
	lossPurge:             {"purge-given-up", "server did not answer PUBREL for old packet identifiers: it may drop new QoS 2 messages that use them", PurgeGivenUp{}, "PurgesGivenUp"},
	lossStuck:             {"session-stuck", "session stuck: the server refuses messages because of QoS 2 exchanges that it holds", SessionStuck{}, "SessionsStuck"},
	lossConnect:           {"connect-failed", "connecting failed", ConnectFailed{}, "ConnectFailures"},
}

// level returns the level of the lines of a kind. It is Debug for a suppressed duplicate, and for a
// message that a newer one replaced because the application set Conflate. Neither is a loss.
func (k lossKind) level() slog.Level {
	if k == lossConflated || lossKinds[k].event == nil {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// fullKind returns the kind for a message of priority p that was dropped because the store is full.
func fullKind(p Priority) lossKind {
	if p > Normal {
		return lossUrgent
	}
	return lossFull
}

// lossDetail contains the attributes of a log line. It must not refer to payloads.
type lossDetail struct {
	id    MessageID
	err   error
	attrs [4]slog.Attr
}

// about returns a detail. It does not allocate.
func about(id MessageID, err error, attrs ...slog.Attr) (d lossDetail) {
	d.id, d.err = id, err
	copy(d.attrs[:], attrs)
	return d
}

// aboutMessage returns the detail for a received message.
func aboutMessage(m *Message, err error) lossDetail {
	return about(m.ID, err, slog.String("topic", m.Topic))
}

// report counts a loss and logs it, and reports it as an event. No lock may be held: the
// application's slog.Handler may call the client.
func report[E Event](c *Client, kind lossKind, d lossDetail, e E) {
	c.reports.losses.Add(int(kind), d)
	if c.cfg.OnEvent != nil { // otherwise e is not allocated
		c.event(e)
	}
}

// logLoss writes the line for a loss. more is the number of further losses of its kind, and d is
// the latest.
func (c *Client) logLoss(kind int, more uint64, d lossDetail) {
	k := &lossKinds[kind]
	text, level, attrs := k.text, lossKind(kind).level(), make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("kind", k.name))
	if more > 0 {
		text = fmt.Sprintf("%d more: %s", more, text)
		attrs = append(attrs, slog.Uint64("more", more))
	}
	if !d.id.IsZero() {
		attrs = append(attrs, slog.String("id", d.id.String()))
	}
	for _, a := range d.attrs {
		if a.Key != "" {
			attrs = append(attrs, a)
		}
	}
	if d.err != nil {
		attrs = append(attrs, slog.Any("error", d.err))
	}
	if r := (interface{ ReasonCode() byte })(nil); errors.As(d.err, &r) {
		attrs = append(attrs, slog.String("reason_code", fmt.Sprintf("0x%02X", r.ReasonCode())))
	}
	if p := (*PanicError)(nil); errors.As(d.err, &p) {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	c.log(level, text, attrs...)
}

// log writes a line to Config.Logger, or to the present slog.Default. The caller must hold no lock.
func (c *Client) log(level slog.Level, text string, attrs ...slog.Attr) {
	p := c.guard.Call(func() {
		logger := c.cfg.Logger
		if logger == nil {
			logger = slog.Default()
			id := c.cfg.ClientID
			if id == "" && c.identity != nil { // the server assigns it
				id = c.identity.ClientID()
			}
			attrs = append(attrs, slog.String("client_id", id)) // several clients may share the logger
		}
		logger.LogAttrs(context.Background(), level, text, attrs...)
	})
	if p != nil { // a line about it would panic too
		c.reports.loggerPanics.Add(1)
		c.event(CallbackPanicked{Function: "Logger", Err: (*PanicError)(p)})
	}
}

// panicked reports a panic of a function of the application. p may be nil.
func (c *Client) panicked(function string, p *callback.Panic) {
	if p == nil {
		return
	}
	err := (*PanicError)(p)
	d := about(MessageID{}, err, slog.String("function", function))
	if function == "OnEvent" { // which would panic again
		c.reports.losses.Add(int(lossPanic), d)
		return
	}
	report(c, lossPanic, d, CallbackPanicked{Function: function, Err: err})
}

// undeclared reports, once, that a message was sent for a subscription that this process has not
// made.
func (c *Client) undeclared(topic string) {
	c.reports.undeclared.Do(func() {
		c.log(slog.LevelWarn, "session has a subscription that no handler of this process declares: its messages wait for one, for Receiving.UnhandledGrace at most; then all handlers whose filters match get them, perhaps twice; Unsubscribe its filter, or Handle it",
			slog.String("topic", topic))
	})
}
