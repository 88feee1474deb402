package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// SessionMode selects what the client does when the server and the store do not
// know the same session.
type SessionMode uint8

const (
	// ResumeSession continues. If the server has a session that the store does not know, the client
	// closes the connection and resumes that session on the next one, see SessionAdopted. If the server has
	// lost the session, SessionConfig.OnLost decides. From a store that was used under another
	// ClientID, the messages are published, and the rest of the old session is discarded.
	ResumeSession SessionMode = iota
	// StrictSession stops the client with a *SessionError in both cases, before anything of the
	// session is discarded or resent, and when another client takes over the session. If the
	// session in the store is that of another ClientID, the client does not connect. Accepted
	// messages stay in the store, except, after a takeover, those in flight with FailInFlight. To
	// continue, create a client with the same store and ResumeSession, or CleanStart, which
	// discards what waits at the server. The loss of a store's first CONNACK is such a case too.
	StrictSession
)

// TakeoverPolicy selects what to do when another connection with the same ClientID
// takes over the session (DISCONNECT 0x8E). If both clients reconnected at once, they
// would end each other's connections forever.
type TakeoverPolicy uint8

const (
	// TakeoverBackOff reconnects after a delay between half of Backoff.Max and all of
	// it, with a new session: the other client has used the old one.
	TakeoverBackOff TakeoverPolicy = iota
	// TakeoverStop ends the client; Err returns why. Accepted messages stay in the store.
	TakeoverStop
)

// StuckPolicy selects what to do when the server refuses messages because of QoS 2 exchanges that it
// holds, and neither sending them again nor ending all of these exchanges helps.
type StuckPolicy uint8

const (
	// StuckRenewIfUnsubscribed begins a new session if this client has no subscriptions: then no message
	// waits in the old one, except for subscriptions of an earlier process that this one did not repeat.
	// Otherwise the messages stay deferred.
	StuckRenewIfUnsubscribed StuckPolicy = iota
	// StuckRenew begins a new session in any case: messages that wait for this client at the server
	// are lost with the old one.
	StuckRenew
	// StuckKeep keeps the session: the messages stay deferred.
	StuckKeep
)

// SessionNeverExpires is a Session Expiry Interval of 0xFFFFFFFF: the session does
// not end by itself (section 3.1.2.11.2 of MQTT 5).
const SessionNeverExpires = link.NeverExpires

// NoSession as SessionConfig.Expiry ends the session with each connection. Then
// messages are delivered at least once, not exactly once.
const NoSession time.Duration = -1

// NoKeepAlive as ConnectionConfig.KeepAlive sends a Keep Alive of 0: the client sends no PINGREQ, also
// after NetworkChanged, and the server does not end a silent connection. A connection that is dead in
// both directions is then found by AckTimeout while messages are in flight, and by WriteTimeout or the
// operating system otherwise; a client that only receives may never find it. The server may choose
// another Keep Alive, which is then in force.
const NoKeepAlive time.Duration = -1

// NoMarker as Config.Presence.MarkerTopic: no marker is published.
const NoMarker = "-"
