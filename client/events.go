package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// Event reports what happens in a client outside the calls of its methods. Config.OnEvent receives
// each of the types below, on goroutines of the client and of callers of its methods, several at a
// time. It must not block: it must not call Drain, nor Publish if WhenFull is Block; Close returns
// at once there. When an event is delivered, State already reflects it or a later change.
type Event interface{ event() }

// Connecting reports the start of an attempt to connect.
type Connecting struct {
	Server  string
	Attempt int // since the last connection, from 1
}

// Connected reports that the server accepted the connection.
type Connected struct {
	Server         string
	SessionPresent bool          // the server resumes the earlier session
	ClientID       string        // as in Client.ClientID
	KeepAlive      time.Duration // in force: the Server Keep Alive, or else ConnectionConfig.KeepAlive; 0: none
	SessionExpiry  time.Duration // in force: the server's choice, or else SessionConfig.Expiry; 0: none
	Attempt        int           // that led to the connection, from 1
	Took           time.Duration // of that attempt, from dialing to CONNACK
}

// ConnectFailed reports a failed attempt. The next one begins after Delay. An
// attempt that ends the client is reported by Stopped.
type ConnectFailed struct {
	Server  string
	Err     error
	Attempt int                // since the last connection, from 1
	Took    time.Duration      // from dialing to the failure
	Action  reliability.Action // what the client does next
	Delay   time.Duration
}

// Disconnected reports the end of a connection. Err is nil if the client itself
// ended it. The next attempt begins after Delay, unless Stopped follows.
type Disconnected struct {
	Server string
	Err    error
	After  time.Duration      // how long the connection was up
	Action reliability.Action // what the client does next
	Delay  time.Duration
}

// Redirected reports that the server named another one (reason code 0x9C or 0x9D).
// The next attempt connects to that.
type Redirected struct {
	From, To  string
	Permanent bool // To replaces From for the rest of the client's life
}

// SessionAdopted reports that the server has a session for this ClientID that the store does not know:
// another library began it, or the store was lost. The client has closed the connection, and resumes that
// session on the next one, which follows at once. The messages that wait in it are received, including
// those of its subscriptions that this client has not made. Before the client sends a stored message, it ends
// all QoS 2 exchanges that the server may hold. StrictSession stops the client instead; CleanStart
// discards the session.
type SessionAdopted struct{ Server string }

// SessionStuck reports that the server goes on refusing messages with 0x97 or 0x91 in a resumed session,
// although the client has ended every QoS 2 exchange that the server may hold: only a new session can
// help. NewSession: the client begins one, see SessionConfig.OnStuck; messages in flight are then
// treated as SessionConfig.OnLost says. It is reported at most once an hour.
type SessionStuck struct{ NewSession bool }

// PurgeGivenUp reports that the server did not answer PUBREL for this many packet identifiers: within five
// seconds, two minutes in all, or because it ended three connections instead. The client uses them all the
// same. If the server holds a QoS 2 exchange under one of them, it takes a new message for a repetition and
// drops it, although it acknowledges it. The client purges identifiers after it has lost them, in a session
// that it has adopted, and if the server refuses messages because of exchanges that it wrongly holds.
type PurgeGivenUp struct{ PacketIDs int }

// SessionLost reports that the server had no session although it should have had
// one. Messages in flight, also those that an earlier process may have sent, are
// published again or have failed, as Message.OnSessionLost and SessionConfig.OnLost
// select. InFlight is the sum of the other two counts.
type SessionLost struct{ InFlight, Republished, Failed int }

// Stopped reports that the client has ended. It is the last event, except for
// those of calls that are in progress at that moment. Err is the fatal error or the
// cause of the end of Start's context; nil after Close and Drain.
type Stopped struct{ Err error }

// MessageRefused reports an accepted message that will not be delivered: the server refused it or
// cannot accept it, or its session was lost and OnSessionLost is FailInFlight.
type MessageRefused struct {
	ID         MessageID
	Topic      string
	Err        error
	DeadLetter bool // it was kept, see StoreConfig.DeadLetters
}

// DeadLetterDropped reports that the oldest dead letters were discarded because there were more than
// StoreConfig.DeadLetters.
type DeadLetterDropped struct{ Dropped int } // since the event before

// MessageDropped reports a message that StoreConfig.WhenFull or Message.Conflate gave up, for the
// Cause of a DroppedError. ID is zero if an earlier process accepted the message.
type MessageDropped struct {
	ID    MessageID
	Topic string // empty if DropOldest dropped it
	Cause error
}

// MessageUnnumbered reports a message that was accepted without a number, although Publishing.Sequenced is
// set: the store numbers Limits.MaxStreams topics and priorities already. Receivers handle it in order
// of receipt, and do not notice if one is missing.
type MessageUnnumbered struct {
	ID    MessageID
	Topic string
}

// MessageDeferred reports an accepted message that the server refused for now. It stays in the
// store, and is sent again after Until.
type MessageDeferred struct {
	ID       MessageID
	Topic    string
	Code     byte  // the server's reason code
	Err      error // the refusal
	Attempts int   // refusals so far
	Until    time.Time
}

// MessagesAbandoned reports messages that are lost because the client closes.
type MessagesAbandoned struct {
	Pending  int // not delivered, in a store in memory; their Deliveries end as Abandoned
	Received int // QoS 1 and 2 messages that were not handled, in a session that ends with the client
}

// MessageExpired reports an accepted message whose Expiry passed before it was sent.
type MessageExpired struct {
	ID    MessageID
	Topic string
}

// HandlerFailed reports that a handler, or a function that returns the key of a message, returned an
// error or panicked.
type HandlerFailed struct {
	Message *Message
	Err     error
	Refused bool // it was the last attempt, so the message was refused, or dropped at QoS 0
	// The following describe the attempts of a handler.
	Attempt int       // from 1
	Since   time.Time // of the first failure
	Waiting int       // messages received later, whose acknowledgements wait for this one
}

// MessageSetAside reports a received message that was put into the list of set-aside messages, see
// [Client.SetAside], and acknowledged.
type MessageSetAside struct {
	Message  *Message
	Filter   string // of the handler; empty: no handler is declared for the topic
	Err      error  // of the last attempt; nil without a handler
	Attempts int
}

// Unhandled reports a received message for which no handler is declared. It was refused, or dropped at
// QoS 0. Waiting: it waits for a handler, see ReceivingConfig.UnhandledGrace.
type Unhandled struct {
	Message *Message
	Waiting bool
}

// ReceivedExpired reports a received message that was acknowledged and not handled because its Expiry
// had passed, see ReceivingConfig.HandleExpired.
type ReceivedExpired struct{ Message *Message }

// PayloadInvalid reports a received message that was refused with 0x99 because its payload is not the
// UTF-8 that its Payload Format Indicator announces.
type PayloadInvalid struct{ Message *Message }

// ReceiveBlocked reports that no further message can be received, because one message is not
// acknowledged: its handler fails, or has not returned. It is reported after 5 s, and each 30 s.
type ReceiveBlocked struct {
	Topic    string
	Since    time.Time // when it was received
	Attempts int       // that failed
	Waiting  int       // messages received later, whose acknowledgements wait for this one
}

// Gap reports missing messages of a publisher.
type Gap struct {
	Publisher, Topic string
	Epoch, From, To  uint64 // the missing numbers, both ends included
}

// LateDropped reports a received message that was dropped because its gap had been given up, see
// ordering.DropLate.
type LateDropped struct{ Message *Message }

// NumberReused reports a received message whose number, in Message.Origin, another message has had: its
// message ID is new. It is handled, with Message.OutOfOrder. Its publisher counts from the beginning
// again, or was restored from a copy, or two publishers have the same name.
type NumberReused struct{ Message *Message }

// NumberRepeated reports a received message that was dropped because its number, in Message.Origin, is
// known. Since it has no message ID, it may be a copy or another message.
type NumberRepeated struct{ Message *Message }

// QoS0Dropped reports a received QoS 0 message that was dropped: a queue or the buffer was full, or
// the client was closing. See ReceivingConfig.QoS0QueueSize and MaxBufferedBytes.
type QoS0Dropped struct{ Message *Message }

// QoS0Lost reports published QoS 0 messages for which Publish had returned, and that were not written to
// the connection, or perhaps in part, when it ended.
type QoS0Lost struct {
	Messages int
	Err      error // why the connection ended
}

// ReadStalled reports that reading from the connection stopped because received messages take all
// of ReceivingConfig.MaxBufferedBytes. With Leaving, handlers freed no space within AckTimeout, and
// further messages are left to the server, which sends them again on the next connection.
type ReadStalled struct {
	Bytes   int64
	Leaving bool
}

// SubscriptionFailed reports a subscription that the server refused, also if Subscribe returns the
// error, or that could not be restored, or ended.
type SubscriptionFailed struct {
	Filter string
	Err    error
}

// SubscriptionDowngraded reports that the server granted a lower QoS than was asked for. At QoS 0
// the server keeps no messages for this client while it is disconnected.
type SubscriptionDowngraded struct {
	Filter         string
	Asked, Granted QoS
}

// MarkerFailed reports that the server refused to subscribe or to publish to
// PresenceConfig.MarkerTopic. The end of retained messages is then known by silence only.
type MarkerFailed struct {
	Topic string
	Err   error
}

// ViewFull reports messages or devices that a watch, a mirror or a fetch refused because of its
// limits, see RetainedOptions and WatchOptions.
type ViewFull struct {
	Filter  string
	Topic   string // of the latest
	Refused int    // since the event before
}

// ChangesMissed reports changes of a watch or a mirror that were dropped because a reader, or
// OnChange, was too slow.
type ChangesMissed struct {
	Filter string
	Missed int // since the event before
}

// CallbackPanicked reports a panic of a function of the application other than a handler, which
// HandlerFailed reports, and OnEvent, whose panic is only logged.
type CallbackPanicked struct {
	Function string // such as "OnChange", "OnStateChange" or "Logger"
	Err      *PanicError
}

// StatusFailed reports a status message that the server did not accept.
type StatusFailed struct{ Err error }

// BreakerChanged reports a change of the circuit breaker's state.
type BreakerChanged struct{ From, To string }

func (Connecting) event()             {}
func (Connected) event()              {}
func (ConnectFailed) event()          {}
func (Disconnected) event()           {}
func (Redirected) event()             {}
func (SessionLost) event()            {}
func (SessionAdopted) event()         {}
func (PurgeGivenUp) event()           {}
func (SessionStuck) event()           {}
func (Stopped) event()                {}
func (MessageRefused) event()         {}
func (MessageDropped) event()         {}
func (DeadLetterDropped) event()      {}
func (MessageExpired) event()         {}
func (MessageDeferred) event()        {}
func (MessageUnnumbered) event()      {}
func (MessagesAbandoned) event()      {}
func (LateDropped) event()            {}
func (NumberReused) event()           {}
func (NumberRepeated) event()         {}
func (QoS0Dropped) event()            {}
func (QoS0Lost) event()               {}
func (ReadStalled) event()            {}
func (SubscriptionDowngraded) event() {}
func (MarkerFailed) event()           {}
func (ViewFull) event()               {}
func (ChangesMissed) event()          {}
func (CallbackPanicked) event()       {}
func (HandlerFailed) event()          {}
func (Unhandled) event()              {}
func (MessageSetAside) event()        {}
func (ReceivedExpired) event()        {}
func (PayloadInvalid) event()         {}
func (ReceiveBlocked) event()         {}
func (Gap) event()                    {}
func (SubscriptionFailed) event()     {}
func (StatusFailed) event()           {}
func (BreakerChanged) event()         {}
