package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// SessionConfig configures the session that the server keeps.
type SessionConfig struct {
	// Expiry is how long the server keeps the session while the client is disconnected. Delivery is
	// exactly once only during that time. Default 24 h; NoSession keeps none; at most 136 years,
	// which means unlimited. The server may override it, see Connected.SessionExpiry.
	Expiry time.Duration
	// CleanStart begins a new session when the client starts. The server discards the old session
	// and its waiting messages. When the client reconnects, it resumes the session, even with
	// CleanStart. Without CleanStart, the client also resumes a session that the store does not
	// know, see SessionAdopted.
	CleanStart bool
	Mode       SessionMode    // what to do when the session at the server is not that in the store; default ResumeSession
	OnTakeover TakeoverPolicy // what to do when another client takes over the session; default TakeoverBackOff
	// OnLost selects what happens to messages in flight, including those of an earlier process,
	// when the server loses the session. Message.OnSessionLost overrides it. Default Republish.
	OnLost  SessionLostPolicy
	OnStuck StuckPolicy // what to do when the server accepts new messages only in a new session; default StuckRenewIfUnsubscribed
	// AssignedClientID lets the server choose the client identifier. The client keeps the
	// identifier of the first CONNACK for all later connections, see Client.ClientID.
	// AssignedClientID requires a store in memory and an empty ClientID. With Sequenced, it also
	// requires Publishing.Publisher. If the first CONNACK is lost, the server keeps an unused
	// session for the time of Expiry.
	AssignedClientID bool
	// Shared declares that all Servers share sessions, because they are nodes of one cluster. Lint
	// then omits the finding several-servers. Shared has no other effect.
	Shared bool
}

// SessionMode selects what the client does when the session at the server is not the session in the
// store.
type SessionMode uint8

const (
	// ResumeSession lets the client continue. If the server has a session that the store does not
	// know, the client closes the connection and resumes that session on the next one, see
	// SessionAdopted. If the server has lost the session, SessionConfig.OnLost selects what happens
	// to messages in flight. If the store was used under another ClientID, the client publishes the
	// stored messages and discards the rest of the stored session.
	ResumeSession SessionMode = iota
	// StrictSession stops the client with a *SessionError in these cases, before it discards or
	// resends any part of the session. It also stops the client when another client takes over the
	// session, and when the first CONNACK for a store is lost. If the stored session belongs to
	// another ClientID, the client does not connect.
	//
	// Accepted messages stay in the store. However, messages in flight with FailInFlight end after
	// a takeover. To continue, create a client with the same store and either ResumeSession or
	// CleanStart. CleanStart discards the messages that wait at the server.
	StrictSession
)

// TakeoverPolicy selects what the client does when another client with the same ClientID takes over
// the session (DISCONNECT 0x8E). If both clients reconnected at once, they would disconnect each
// other again and again.
type TakeoverPolicy uint8

const (
	// TakeoverBackOff reconnects with a new session, because the other client has used the old one.
	// The delay is between Backoff.Max/2 and Backoff.Max.
	TakeoverBackOff TakeoverPolicy = iota
	// TakeoverStop stops the client, and Err returns the reason. Accepted messages stay in the
	// store.
	TakeoverStop
)

// StuckPolicy selects what the client does if the server refuses new messages because it treats
// completed QoS 2 exchanges as still open.
type StuckPolicy uint8

const (
	// StuckRenewIfUnsubscribed begins a new session if this client has no subscriptions. The old
	// session then holds no messages for this client, unless an earlier process made subscriptions
	// that this process did not repeat. If the client has subscriptions, the session is kept and
	// the refused messages stay deferred.
	StuckRenewIfUnsubscribed StuckPolicy = iota
	// StuckRenew always begins a new session. Messages that wait for this client in the old session
	// are lost.
	StuckRenew
	// StuckKeep keeps the session. The refused messages stay deferred.
	StuckKeep
)

// SessionNeverExpires is the expiry of a session that never expires. In MQTT 5, this is a Session
// Expiry Interval of 0xFFFFFFFF (section 3.1.2.11.2).
const SessionNeverExpires = link.NeverExpires

// NoSession, as SessionConfig.Expiry, ends the session when the connection ends. Delivery is then
// at least once, and not exactly once.
const NoSession time.Duration = -1

// NoKeepAlive, as ConnectionConfig.KeepAlive, disables the keep alive. The client sends no PINGREQ,
// not even after NetworkChanged, and the server does not end a silent connection. The server may
// override NoKeepAlive with another Keep Alive.
//
// If a connection fails without an error, the client then detects this by AckTimeout while messages
// are in flight. If no messages are in flight, it can detect this only by WriteTimeout or through
// the operating system. A client that only receives messages may never detect a failed connection.
const NoKeepAlive time.Duration = -1

// NoMarker, as Config.Presence.MarkerTopic, disables the marker. The client then detects the end of
// retained messages by a time without messages.
const NoMarker = "-"
