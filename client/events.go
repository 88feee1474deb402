package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// Event is something that happens in a client by itself, not in a call that the application makes.
// Config.OnEvent receives each type below.
//
// The client calls OnEvent with one event at a time, in order, on a goroutine of its own. OnEvent
// may therefore block, and may call all methods of the client, such as Subscribe after Connected.
// The client continues meanwhile: State may already reflect a later change than the event. New
// returns after OnEvent has received the events that occurred in New.
//
// Up to 4 MiB of events wait for OnEvent. Further events are dropped, counted in Stats.EventsMissed
// and reported by EventsMissed. Close waits until OnEvent has received all events, at most
// CloseTimeout. Stopped is the last event. Close and Drain do not wait for the end of the client if
// OnEvent calls them.
//
// If OnEvent publishes again what MessageDropped reports, and the store is still full, another
// message is dropped.
type Event interface{ event() }

// Connecting reports the start of an attempt to connect.
type Connecting struct {
	Server  string
	Attempt int // number of the attempt since the last connection, from 1
}

// Connected reports that the server accepted the connection.
type Connected struct {
	Server         string
	SessionPresent bool          // the server resumes the earlier session
	ClientID       string        // as in Client.ClientID
	KeepAlive      time.Duration // in effect: the Server Keep Alive, or else ConnectionConfig.KeepAlive; 0: none
	SessionExpiry  time.Duration // in effect: the server's choice, or else SessionConfig.Expiry; 0: none
	Attempt        int           // number of the attempt that succeeded, from 1
	Took           time.Duration // duration of that attempt, from dialing to CONNACK
}

// ConnectFailed reports a failed attempt to connect. The next attempt begins after Delay. If the
// failure stops the client, it is reported by Stopped instead.
type ConnectFailed struct {
	Server  string
	Err     error
	Attempt int                // number of the attempt since the last connection, from 1
	Took    time.Duration      // from dialing to the failure
	Action  reliability.Action // what the client does next
	Delay   time.Duration
}

// Disconnected reports the end of a connection. Err is nil if the client ended it. The next attempt
// begins after Delay, unless Stopped follows.
type Disconnected struct {
	Server string
	Err    error
	After  time.Duration      // how long the connection was up
	Action reliability.Action // what the client does next
	Delay  time.Duration
}

// Redirected reports that the server referred to another one (reason code 0x9C or 0x9D). The client
// connects to that server next.
type Redirected struct {
	From, To  string
	Permanent bool // To replaces From until the client ends
}

// SessionAdopted reports that the client resumes a session that the store does not know. The server
// had one for this ClientID: another library began it, or the store was lost. The client has closed
// the connection, and resumes the session on the next one at once. It receives the messages that
// wait in the session, including those of subscriptions that this client has not made. It first
// ends all QoS 2 exchanges that the server may hold, and then sends stored messages. StrictSession
// stops the client instead. CleanStart discards the session.
type SessionAdopted struct{ Server string }

// SessionStuck reports that only a new session can make the server accept messages. The server
// still refuses messages with 0x97 or 0x91, although the client has ended every QoS 2 exchange that
// the server may hold. With NewSession, the client begins a new session (see
// SessionConfig.OnStuck), and SessionConfig.OnLost decides about messages in flight. It is reported
// at most once an hour.
type SessionStuck struct{ NewSession bool }

// PurgeGivenUp reports for how many packet identifiers the server did not answer PUBREL. The limit
// is 5 s each, 2 minutes in all, or three connections that ended instead. The client then uses the
// identifiers anyway. If the server still holds a QoS 2 exchange under one of them, it acknowledges
// a new message but drops it as a duplicate. The client purges identifiers after it has lost them,
// in an adopted session, and when the server refuses messages because of exchanges that it wrongly
// holds.
type PurgeGivenUp struct{ PacketIDs int }

// SessionLost reports that the server did not have the session that it should have. Messages in
// flight, also those of an earlier process, are published again or have failed, see
// Message.OnSessionLost and SessionConfig.OnLost. InFlight is the sum of the other two counts.
type SessionLost struct{ InFlight, Republished, Failed int }

// Stopped reports that the client has ended. Only events of calls in progress can follow. Err is
// the fatal error, or the cause that ended Start's context. It is nil after Close and Drain.
type Stopped struct{ Err error }

// MessageRefused reports an accepted message that will not be delivered. The server refused it or
// does not support it, or its session was lost and OnSessionLost is FailInFlight.
type MessageRefused struct {
	ID         MessageID
	Topic      string
	Err        error
	DeadLetter bool // the message is kept, see StoreConfig.DeadLetters
}

// DeadLetterDropped reports that the oldest dead letters were discarded, because there were more
// than StoreConfig.DeadLetters.
type DeadLetterDropped struct{ Dropped int } // since the previous event

// MessageDropped reports a message that was dropped by StoreConfig.WhenFull or Message.Conflate.
// Cause is that of the DroppedError. ID is zero if an earlier process accepted the message.
// Client.Cancel is not reported.
type MessageDropped struct {
	ID    MessageID
	Topic string // empty if DropOldest dropped it
	Cause error
}

// MessageUnnumbered reports a message that was accepted without a sequence number although
// Publishing.Sequenced is set. The store already numbers Limits.MaxStreams pairs of topic and
// priority. Receivers handle such messages in order of receipt and do not detect missing ones.
type MessageUnnumbered struct {
	ID    MessageID
	Topic string
}

// MessageDeferred reports an accepted message that the server refused for now. It stays in the
// store and is resent after Until.
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
	Pending  int // undelivered messages of a store in memory; their Deliveries end as Abandoned
	Received int // unhandled QoS 1 and 2 messages of a session that ends with the client
}

// MessageExpired reports an accepted message whose Expiry passed before it was sent.
type MessageExpired struct {
	ID    MessageID
	Topic string
}

// HandlerFailed reports an error or a panic of a handler, or of a function that returns a message's
// key.
type HandlerFailed struct {
	Message *Message
	Err     error
	Refused bool // it was the last attempt: the message was refused, or dropped at QoS 0
	// The following fields describe the attempts of a handler.
	Attempt int       // from 1
	Since   time.Time // time of the first failure
	Waiting int       // later messages whose acknowledgements wait for this one
}

// MessageSetAside reports a received message that was acknowledged and put into the list of
// set-aside messages, see [Client.SetAside].
type MessageSetAside struct {
	Message  *Message
	Filter   string // of the handler; empty if no handler is declared for the topic
	Err      error  // error of the last attempt; nil without a handler
	Attempts int
}

// Unhandled reports a received message for which no handler is declared. With Waiting, the message
// waits for a handler, see ReceivingConfig.UnhandledGrace. Otherwise it was refused, or dropped at
// QoS 0.
type Unhandled struct {
	Message *Message
	Waiting bool
}

// ReceivedExpired reports a received message that was acknowledged but not handled, because it had
// expired, see ReceivingConfig.HandleExpired.
type ReceivedExpired struct{ Message *Message }

// PayloadInvalid reports a received message whose Payload Format Indicator announces UTF-8, but
// whose payload is not UTF-8. It was refused with 0x99.
type PayloadInvalid struct{ Message *Message }

// ReceiveBlocked reports that no further message can be received, because one message is not
// acknowledged: its handler fails or does not return. It is reported after 5 s, and then every 30
// s.
type ReceiveBlocked struct {
	Topic    string
	Since    time.Time // when the message was received
	Attempts int       // failed attempts
	Waiting  int       // later messages whose acknowledgements wait for this one
}

// Gap reports messages of a publisher that are missing.
type Gap struct {
	Publisher, Topic string
	Epoch, From, To  uint64 // first and last missing number
}

// LateDropped reports a received message that was dropped because it arrived after its gap had been
// reported, see ordering.DropLate.
type LateDropped struct{ Message *Message }

// NumberReused reports a received message with a sequence number that another message used before.
// Its message ID is new, so it is handled, with Message.OutOfOrder. Either its publisher restarted
// its numbers or was restored from a copy, or two publishers have the same name.
type NumberReused struct{ Message *Message }

// NumberRepeated reports a received message that was dropped because its sequence number was
// handled before. It has no message ID, so it may be a copy or another message.
type NumberRepeated struct{ Message *Message }

// QoS0Dropped reports a received QoS 0 message that was dropped because a queue or the buffer was
// full, or the client was closing. See ReceivingConfig.QoS0QueueSize and MaxBufferedBytes.
type QoS0Dropped struct{ Message *Message }

// QoS0Lost reports QoS 0 messages that Publish accepted and that the connection had not, or only
// partly, written when it ended.
type QoS0Lost struct {
	Messages int
	Err      error // why the connection ended
}

// ReadStalled reports that the client stopped reading from the connection because received messages
// take all of ReceivingConfig.MaxBufferedBytes. With Leaving, handlers freed no space within
// AckTimeout. The client then leaves further messages to the server, which resends them on the next
// connection.
type ReadStalled struct {
	Bytes   int64
	Leaving bool
}

// SubscriptionFailed reports a subscription that the server refused, that could not be restored, or
// that has ended. It is also reported if Subscribe returns the error.
type SubscriptionFailed struct {
	Filter string
	Err    error
}

// SubscriptionDowngraded reports that the server granted a lower QoS than requested. At QoS 0 the
// server keeps no messages for this client while it is disconnected.
type SubscriptionDowngraded struct {
	Filter         string
	Asked, Granted QoS
}

// MarkerFailed reports that the server refused a subscription or a message to
// PresenceConfig.MarkerTopic. The client then detects the end of retained messages by silence only.
type MarkerFailed struct {
	Topic string
	Err   error
}

// ViewFull reports messages or devices that exceeded the limits of a watch, a mirror or a fetch,
// see RetainedOptions and WatchOptions.
type ViewFull struct {
	Filter  string
	Topic   string // of the latest one
	Refused int    // since the previous event
}

// ChangesMissed reports changes of a watch or a mirror that were dropped because a reader or
// OnChange was too slow.
type ChangesMissed struct {
	Filter string
	Missed int // since the previous event
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
