package client

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
)

// SessionMode selects what the client does when the server and the store do not
// know the same session.
type SessionMode uint8

const (
	// ResumeSession continues. If the server has a session that the store does not
	// know, the client closes the connection and asks for a new session, see
	// ErrUnknownSession. If the server has lost the session, SessionConfig.OnLost
	// decides. From a store that was used under another ClientID, the messages are
	// published, and the rest of the old session is discarded.
	ResumeSession SessionMode = iota
	// StrictSession stops the client with a *SessionError in both cases, before
	// anything of the session is discarded or resent, and when another client takes
	// over the session. If the session in the store is that of another ClientID, the
	// client does not connect. Accepted messages stay in the store, except, after a
	// takeover, those in flight with FailInFlight. To continue, create a client with
	// the same store and CleanStart or ResumeSession; CleanStart discards what waits
	// at the server. If the first CONNACK of a store is lost, the server has a session
	// that the store does not know, and StrictSession stops there too.
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
	// TakeoverStop ends the client; Err returns why. Accepted messages stay in the
	// store.
	TakeoverStop
)

// SessionError says that the client has stopped because the server and the store do
// not know the same session, see StrictSession. For errors.Is it is
// ErrUnknownSession or ErrSessionLost.
type SessionError struct {
	// Present: the server has a session that the store does not know. Otherwise the
	// store knows a session that the server does not have.
	Present bool
	// ClientID, if not empty, is the owner of the session in the store: another
	// client. The client has not connected.
	ClientID string
	// TakenOver: another client with this ClientID took over the session earlier, and
	// has used it. The client has not connected.
	TakenOver bool
}

func (e *SessionError) Error() string {
	if e.TakenOver {
		return "client: another client with this ClientID took the session over, and has used it; start with CleanStart or ResumeSession to publish what is in the store in a new one"
	}
	if e.ClientID != "" {
		return fmt.Sprintf("client: the session in the store is that of the ClientID %q; start with the store that belongs to this one, or with CleanStart or ResumeSession to publish what is in it under this one", e.ClientID)
	}
	if e.Present {
		return "client: the server has a session that the store knows nothing of; start with the store that belongs to it, or with CleanStart to give it up"
	}
	return "client: the server has lost the session that the store goes on with; start with CleanStart or ResumeSession to publish again what is in the store, or look at it first"
}

// Is reports whether target is the sentinel for this error.
func (e *SessionError) Is(target error) bool {
	unknown := e.Present || e.ClientID != "" || e.TakenOver
	return target == ErrUnknownSession && unknown || target == ErrSessionLost && !unknown
}

// sessionError is the public form of the link's error.
func sessionError(e *link.SessionMismatchError) *SessionError {
	if e.Owner == link.OwnerTakenOver {
		return &SessionError{TakenOver: true}
	}
	return &SessionError{Present: e.Present, ClientID: e.Owner}
}

// newIdentity returns the identity of a client whose store is open. temporary: the
// ClientID ends with the client.
func (c *Client) newIdentity(temporary bool) *link.Identity {
	return link.NewIdentity(link.IdentityConfig{
		ClientID:   c.cfg.ClientID,
		Temporary:  temporary,
		Expiry:     max(c.cfg.Session.Expiry, 0), // NoSession is negative
		CleanStart: c.cfg.Session.CleanStart,
		Strict:     c.cfg.Session.Mode == StrictSession,
		Store:      c.store,
	})
}

// beginSession makes the session that the server has lost void in the store, and
// reports what was in flight in it.
func (c *Client) beginSession() error {
	if err := c.outbox.ResetSession(c.ClientID(), c.session.Unacked()); err != nil {
		return err
	}
	if lost := c.outbox.NewSession(); lost != (outbox.Lost{}) || c.identity.Expected() {
		c.reports.sessionsLost.Add(1)
		c.event(SessionLost{InFlight: lost.Republished + lost.Failed, Republished: lost.Republished, Failed: lost.Failed})
	}
	return nil
}

// SessionInfo is what the client knows about its session at the server, from the
// last CONNACK and the time since. Only the next CONNACK is certain, see
// Connected.SessionPresent and SessionLost.
type SessionInfo struct {
	// MayExist: the server may still have the session. It is false before the first
	// session, while disconnected with NoSession, and once the session has expired.
	MayExist bool
	// Expiry is how long the server keeps the session while the client is
	// disconnected, as CONNACK set it. 0 before the first CONNACK of this client;
	// SessionNeverExpires: it does not end.
	Expiry time.Duration
	// Until is when the session expires unless the client connects. It is zero while
	// connected, for a session that never expires, and for a session of an earlier
	// process: how long that has been disconnected is not stored.
	Until time.Time
	// Lost is how often the server had no session although it should have had one.
	Lost uint64
}

// SessionNeverExpires is a Session Expiry Interval of 0xFFFFFFFF: the session does
// not end by itself (section 3.1.2.11.2 of MQTT 5).
const SessionNeverExpires = link.NeverExpires

// Session returns what the client knows about its session at the server.
func (c *Client) Session() SessionInfo {
	if c == nil {
		return SessionInfo{}
	}
	mayExist, expiry, until := c.identity.Session(time.Now())
	return SessionInfo{MayExist: mayExist, Expiry: expiry, Until: until, Lost: c.reports.sessionsLost.Load()}
}
