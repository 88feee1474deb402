package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Event is something worth knowing that is not an error of a call. Config's
// OnEvent gets each of the types below; it is called from the client's
// goroutines and from callers' of its methods, several at a time. It must not block,
// and so must not call Drain, or Publish where WhenFull is Block; Close returns at
// once there. What State says is what the event tells of, or newer.
type Event interface{ event() }

// Connecting: an attempt begins.
type Connecting struct {
	Server  string
	Attempt int // from 1, counted since there was a connection
}

// Connected: the server accepted the connection.
type Connected struct {
	Server         string
	SessionPresent bool          // the server goes on with the session of before
	ClientID       string        // as in Client.ClientID
	KeepAlive      time.Duration // in force: the Server Keep Alive, or else Config.Connection.KeepAlive; 0: none
	SessionExpiry  time.Duration // in force: as the server gives it, which may not be Config.Session.Expiry; 0: none
	Attempt        int           // that led to it, from 1
	Took           time.Duration // that attempt, from dialing to CONNACK
}

// ConnectFailed: an attempt failed; the next comes after Delay. An attempt after
// which there will be none is told by Stopped.
type ConnectFailed struct {
	Server  string
	Err     error
	Attempt int                // from 1, counted since there was a connection
	Took    time.Duration      // from dialing to the failure
	Action  reliability.Action // what is done about it
	Delay   time.Duration
}

// Disconnected: the connection ended. Err says why; nil if the client itself is
// ending. The next attempt comes after Delay, unless Stopped comes.
type Disconnected struct {
	Server string
	Err    error
	After  time.Duration      // how long it stood
	Action reliability.Action // what is done about it
	Delay  time.Duration
}

// Redirected: the server named another one (reason code 0x9C or 0x9D), which the
// next attempt goes to.
type Redirected struct {
	From, To  string
	Permanent bool // To takes the place of From for as long as the client lives
}

// SessionLost: the server had no session although it should have had one. The
// messages that were in flight are published again, or have failed, by
// Message.OnSessionLost and Config.Session.OnLost. What an earlier process may have
// sent counts as in flight.
//
// The fields count messages; InFlight is the sum of the other two.
type SessionLost struct{ InFlight, Republished, Failed int }

// Stopped: the client has ended, and this is its last event, except for those of
// calls that are under way at that moment. Err is why it gave up by itself or by
// Start's context; nil after Close and Drain.
type Stopped struct{ Err error }

// MessageRefused: an accepted message will not be delivered: the server refused
// it, or cannot take it, or its session was lost and OnSessionLost is
// FailInFlight. DeadLetter says that it was set aside, see Config.Store.DeadLetters.
type MessageRefused struct {
	ID         MessageID
	Err        error
	DeadLetter bool
}

// MessageDropped: a message was given up by Config.Store.WhenFull or Message.Conflate,
// for the Cause of a DroppedError. ID is zero if an earlier process accepted it.
type MessageDropped struct {
	ID    MessageID
	Cause error
}

// MessageExpired: an accepted message's Expiry passed before it was sent.
type MessageExpired struct{ ID MessageID }

// HandlerFailed: a handler returned an error or panicked. Refused says that it
// was the last attempt and the message was refused.
type HandlerFailed struct {
	Message *Message
	Err     error
	Refused bool
}

// Unhandled: a message came that no handler is declared for. It was refused.
type Unhandled struct{ Message *Message }

// Gap: messages of a publisher are missing.
type Gap struct {
	Publisher, Topic string
	Epoch, From, To  uint64 // the missing numbers, both ends included
}

// SubscriptionFailed: a subscription could not be restored, or not be ended.
type SubscriptionFailed struct {
	Filter string
	Err    error
}

// StatusFailed: a status message was not accepted by the server.
type StatusFailed struct{ Err error }

// StoreFailed: the store or the dedupe cache failed.
type StoreFailed struct{ Err error }

// StoreDamaged: a place in the log in Config.Dir cannot be read. What is around
// it is in use.
type StoreDamaged struct{ persistence.Corruption }

// BreakerChanged: the circuit breaker went from one state to another.
type BreakerChanged struct{ From, To string }

func (Connecting) event()         {}
func (Connected) event()          {}
func (ConnectFailed) event()      {}
func (Disconnected) event()       {}
func (Redirected) event()         {}
func (SessionLost) event()        {}
func (Stopped) event()            {}
func (MessageRefused) event()     {}
func (MessageDropped) event()     {}
func (MessageExpired) event()     {}
func (HandlerFailed) event()      {}
func (Unhandled) event()          {}
func (Gap) event()                {}
func (SubscriptionFailed) event() {}
func (StatusFailed) event()       {}
func (StoreFailed) event()        {}
func (StoreDamaged) event()       {}
func (BreakerChanged) event()     {}
