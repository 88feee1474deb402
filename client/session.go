package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// SessionMode selects what the client does when the server and the store do not know the same
// session.
type SessionMode uint8

const (
	// ResumeSession continues. If the server has a session that the store does not know, the client
	// closes the connection and resumes that session on the next one, see SessionAdopted. If the
	// server has lost the session, SessionConfig.OnLost decides. If the store was used under
	// another ClientID, its messages are published and the rest of its session is discarded.
	ResumeSession SessionMode = iota
	// StrictSession stops the client with a *SessionError instead, before it discards or resends
	// anything of the session. It also stops the client when another client takes over the session,
	// and when a store's first CONNACK is lost. If the stored session belongs to another ClientID,
	// the client does not connect.
	//
	// Accepted messages stay in the store, except that messages in flight with FailInFlight end
	// after a takeover. To continue, create a client with the same store and either ResumeSession
	// or CleanStart. CleanStart discards the messages that wait at the server.
	StrictSession
)

// TakeoverPolicy selects what to do when another connection with the same ClientID takes over the
// session (DISCONNECT 0x8E). If both clients reconnected at once, they would disconnect each other
// forever.
type TakeoverPolicy uint8

const (
	// TakeoverBackOff reconnects with a new session, because the other client has used the old one.
	// The delay is between Backoff.Max/2 and Backoff.Max.
	TakeoverBackOff TakeoverPolicy = iota
	// TakeoverStop stops the client, and Err returns the reason. Accepted messages stay in the
	// store.
	TakeoverStop
)

// StuckPolicy selects what to do when the server counts QoS 2 exchanges as open that the client has
// completed, and refuses new messages for that reason.
type StuckPolicy uint8

const (
	// StuckRenewIfUnsubscribed begins a new session if this client has no subscriptions. The old
	// session then holds no messages, except for subscriptions of an earlier process that this one
	// did not repeat. With subscriptions, the refused messages stay deferred.
	StuckRenewIfUnsubscribed StuckPolicy = iota
	// StuckRenew always begins a new session. Messages that wait for this client in the old one are
	// lost.
	StuckRenew
	// StuckKeep keeps the session. The refused messages stay deferred.
	StuckKeep
)

// SessionNeverExpires is a Session Expiry Interval of 0xFFFFFFFF: the session never expires
// (section 3.1.2.11.2 of MQTT 5).
const SessionNeverExpires = link.NeverExpires

// NoSession, as SessionConfig.Expiry, ends the session with each connection. Messages are then
// delivered at least once, not exactly once.
const NoSession time.Duration = -1

// NoKeepAlive, as ConnectionConfig.KeepAlive, disables the keep alive. The client sends no PINGREQ,
// not even after NetworkChanged, and the server does not end a silent connection. The server may
// override it with another Keep Alive.
//
// A connection that is dead in both directions is then detected by AckTimeout while messages are in
// flight, otherwise by WriteTimeout or the operating system. A client that only receives may never
// detect it.
const NoKeepAlive time.Duration = -1

// NoMarker, as Config.Presence.MarkerTopic, disables the marker.
const NoMarker = "-"
