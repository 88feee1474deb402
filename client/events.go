package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// Event is something that happens in a client, other than in a call of the application.
// Config.OnEvent receives the types below.
//
// The client calls OnEvent with one event at a time, in order, on a separate goroutine. OnEvent may
// therefore block, and may call all methods of the client, such as Subscribe after Connected.
// Meanwhile the client continues, so State may already reflect a later change than the event. New
// returns after OnEvent has received the events that occurred in New.
//
// Up to 4 MiB of events wait for OnEvent. Further events are dropped, counted in Stats.EventsMissed
// and reported by EventsMissed. Close waits at most CloseTimeout until OnEvent has received all
// events. Stopped is the last event. If OnEvent calls Close or Drain, the call does not wait for
// the end of the client.
//
// If OnEvent republishes a dropped message while the store is full, another message is dropped.
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
	ClientID       string        // the same as Client.ClientID
	KeepAlive      time.Duration // the value in use: the Server Keep Alive or else ConnectionConfig.KeepAlive; 0 disables it
	SessionExpiry  time.Duration // the value in use: the server's choice or else SessionConfig.Expiry; 0 means no session
	Attempt        int           // number of the attempt that succeeded, from 1
	Took           time.Duration // duration of that attempt, from dialing to CONNACK
}

// ConnectFailed reports a failed attempt to connect. The next attempt begins after Delay. Delay is 0
// if another server is tried next. If the failure stops the client, Stopped reports it instead.
type ConnectFailed struct {
	Server  string
	Err     error
	Attempt int                // number of the attempt since the last connection, from 1
	Took    time.Duration      // time from dialing to the failure
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

// Redirected reports that the server redirected the client to another server (reason code 0x9C or
// 0x9D). The client connects to that server next.
type Redirected struct {
	From, To  string
	Permanent bool // the client uses To in place of From until the client ends
}

// SessionStuck reports that only a new session can make the server accept messages. The server
// still refuses messages with 0x97 or 0x91, although the client has ended every QoS 2 exchange that
// the server may hold. If NewSession is true, the client begins a new session (see
// SessionConfig.OnStuck), and messages in flight are treated as SessionConfig.OnLost selects. The
// event is reported at most once an hour.
type SessionStuck struct{ NewSession bool }

// PurgeGivenUp reports for how many packet identifiers the server did not answer PUBREL. The limit
// is 5 s each, 2 minutes in all, or three connections that ended instead. The client sends PUBREL
// to end QoS 2 exchanges that the server may still hold. It does so in an adopted session, after a
// loss of packet identifiers, and when exchanges make the server refuse messages. The client now
// uses the identifiers anyway. If the server still holds an exchange, it acknowledges a new message
// with that identifier, but drops it as a duplicate.
type PurgeGivenUp struct{ PacketIDs int }

// SessionLost reports that the server has lost the session. Messages in flight, including those of
// an earlier process, are published again or have failed, see Message.OnSessionLost and
// SessionConfig.OnLost. InFlight is the sum of Republished and Failed.
type SessionLost struct {
	Server                        string // the server without its session, in the form of Connected.Server
	InFlight, Republished, Failed int
}

// Stopped reports that the client has ended. No event follows Stopped. Err is the fatal error, or
// the cause that ended Start's context. Err is nil after Close and Drain.
type Stopped struct{ Err error }

// MessageRefused reports an accepted message that will not be delivered. Either the server refused
// the message or does not support it, or the session was lost and OnSessionLost is FailInFlight.
type MessageRefused struct {
	ID         MessageID
	Topic      string
	Err        error
	DeadLetter bool // the store keeps the message, see StoreConfig.DeadLetters
}

// DeadLetterDropped reports that the store discarded its oldest dead letters, because there were
// more than StoreConfig.DeadLetters.
type DeadLetterDropped struct{ Dropped int } // since the previous event

// MessageDropped reports a message that was dropped by StoreConfig.WhenFull or Message.Conflate.
// Cause is the same as in the DroppedError. ID is zero if an earlier process accepted the message.
// Client.Cancel is not reported.
type MessageDropped struct {
	ID       MessageID
	Topic    string // empty if DropOldest dropped it
	Priority Priority
	Limit    string // name of the limit that was reached, such as MaxDiskBytes; empty if it is unknown
	Cause    error
}

// MessageUnnumbered reports a message that was accepted without a sequence number although
// Publishing.Sequenced is set. The store already assigns numbers for Limits.MaxStreams pairs of
// topic and priority. Receivers handle unnumbered messages in order of receipt and report no gaps.
type MessageUnnumbered struct {
	ID    MessageID
	Topic string
}

// MessageDeferred reports an accepted message that the server refused for now. The message stays in
// the store, and the client resends it after Until.
type MessageDeferred struct {
	ID       MessageID
	Topic    string
	Code     byte  // the server's reason code
	Err      error // the refusal
	Attempts int   // number of refusals so far
	Until    time.Time
}

// MessagesAbandoned reports how many messages are lost because the client closes.
type MessagesAbandoned struct {
	Pending  int // undelivered messages of a store in memory; their outcome is Abandoned
	Received int // unhandled QoS 1 and 2 messages of a session that ends with the client
}

// MessageExpired reports an accepted message whose Expiry passed before it was sent in the present
// session. If the server has lost its session, the message may have been sent in the lost session.
type MessageExpired struct {
	ID    MessageID
	Topic string
}

// HandlerFailed reports an error or a panic of a handler, or of a function that returns a message's
// key.
type HandlerFailed struct {
	Message *Message
	Err     error
	Refused bool // after the last attempt: the message was refused, or at QoS 0 dropped
	// The following fields describe the attempts of a handler.
	Attempt int       // from 1
	Since   time.Time // time of the first failure
	Waiting int       // later messages whose acknowledgements wait for this one
}

// MessageSetAside reports a received message that the client acknowledged and put into the list of
// messages to handle later, see [Client.SetAside].
type MessageSetAside struct {
	Message  *Message
	Filter   string // filter of the handler; empty if the topic has no handler
	Err      error  // error of the last attempt; nil without a handler
	Attempts int
}

// Unhandled reports a received message for which no handler is declared. If Waiting is true, the
// message waits for a handler, see ReceivingConfig.UnhandledGrace. If Waiting is false, the client
// refused the message or, at QoS 0, dropped it.
type Unhandled struct {
	Message *Message
	Waiting bool
}

// ReceivedExpired reports a received message that was acknowledged but not handled, because the
// message had expired, see ReceivingConfig.HandleExpired.
type ReceivedExpired struct{ Message *Message }

// PayloadInvalid reports a received message whose Payload Format Indicator announces UTF-8, but
// whose payload is not UTF-8. The client refused the message with 0x99.
type PayloadInvalid struct{ Message *Message }

// Gap reports that numbered messages of a publisher are missing.
type Gap struct {
	Publisher, Topic string
	Epoch, From, To  uint64 // first and last missing number
}

// LateDropped reports a received message that was dropped because it arrived after it had been
// reported as missing, see ordering.DropLate.
type LateDropped struct{ Message *Message }

// NumberReused reports a received message with a sequence number that another message used before.
// The message has a new ID, so it is handled, with Message.OutOfOrder. Either the publisher
// restarted its numbers or was restored from a copy, or two publishers have the same name.
type NumberReused struct{ Message *Message }

// NumberRepeated reports a received message that was dropped because its sequence number was
// handled before. The message has no ID, so it may be a copy or a different message.
type NumberRepeated struct{ Message *Message }

// QoS0Dropped reports a received QoS 0 message that was dropped because a queue or the buffer was
// full or the client was closing. See ReceivingConfig.QoS0QueueSize and MaxBufferedBytes.
type QoS0Dropped struct{ Message *Message }

// QoS0Lost reports how many QoS 0 messages were lost because the connection ended before it had
// written them completely.
type QoS0Lost struct {
	Messages int
	Err      error // why the connection ended
}

// ReadStalled reports that the client stopped reading from the connection because received messages
// take all of ReceivingConfig.MaxBufferedBytes. If Leaving is true, handlers freed no space within
// AckTimeout. The client then accepts no further messages. The server resends them on the next
// connection.
type ReadStalled struct {
	Bytes   int64
	Leaving bool
}

// MarkerFailed reports that the server refused a subscription or a message to
// PresenceConfig.MarkerTopic. The client then detects the end of the retained messages only by a
// time without messages.
type MarkerFailed struct {
	Topic string
	Err   error
}

// ViewFull reports messages or devices that exceeded the limits of a watch, a mirror or a fetch,
// see RetainedOptions and WatchOptions.
type ViewFull struct {
	Filter  string
	Topic   string // topic of the latest one
	Refused int    // since the previous event
}

// ChangesMissed reports how many changes of a watch or a mirror were dropped because a reader or
// OnChange was too slow.
type ChangesMissed struct {
	Filter string
	Missed int // since the previous event
}

// StatusFailed reports that the server did not accept a status message of this client.
type StatusFailed struct{ Err error }

// BreakerChanged reports a change of the circuit breaker's state.
type BreakerChanged struct{ From, To string }

func (Connecting) event()        {}
func (Connected) event()         {}
func (ConnectFailed) event()     {}
func (Disconnected) event()      {}
func (Redirected) event()        {}
func (SessionLost) event()       {}
func (SessionAdopted) event()    {}
func (PurgeGivenUp) event()      {}
func (SessionStuck) event()      {}
func (Stopped) event()           {}
func (MessageRefused) event()    {}
func (MessageDropped) event()    {}
func (DeadLetterDropped) event() {}
func (MessageExpired) event()    {}
func (MessageDeferred) event()   {}
func (MessageUnnumbered) event() {}
func (MessagesAbandoned) event() {}
func (LateDropped) event()       {}
func (NumberReused) event()      {}
func (NumberRepeated) event()    {}
func (QoS0Dropped) event()       {}
func (QoS0Lost) event()          {}
func (ReadStalled) event()       {}
func (MarkerFailed) event()      {}
func (ViewFull) event()          {}
func (ChangesMissed) event()     {}
func (HandlerFailed) event()     {}
func (Unhandled) event()         {}
func (MessageSetAside) event()   {}
func (ReceivedExpired) event()   {}
func (PayloadInvalid) event()    {}
func (Gap) event()               {}
func (StatusFailed) event()      {}
func (BreakerChanged) event()    {}
