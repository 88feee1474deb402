package client

import (
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// SessionMode says what the client does when the server and the store do not
// know the same session.
type SessionMode uint8

const (
	// ResumeSession goes on. A session that the server has and the store knows
	// nothing of is closed and asked for anew, see ErrUnknownSession; where the
	// server has lost it, Config.Session.OnLost decides. A store that was used
	// under another ClientID knows nothing of a session of this one: its messages
	// are published, and all else of the old session is forgotten.
	ResumeSession SessionMode = iota
	// StrictSession stops the client: with a *SessionError in both cases, before
	// anything of the session is given up or sent again, and when another client
	// takes the session over. It does not even connect where the session in the
	// store is that of another ClientID. What is accepted stays in the store; after a
	// takeover, but for what was in flight and is to fail with it (FailInFlight). To go
	// on, make a client with the same store and CleanStart or ResumeSession; the
	// first decides that what waits at the server is given up. If the very first CONNACK
	// of a store is lost on the way, the server has a session that the store does
	// not know, and this mode stops there too.
	StrictSession
)

// SessionError says that the server and the store do not know the same session,
// and the client has stopped, see StrictSession. It is ErrUnknownSession or
// ErrSessionLost for errors.Is.
type SessionError struct {
	// Present: the server has a session that the store knows nothing of. Else it
	// has none, and the store does.
	Present bool
	// ClientID, when it is not empty, is whose session the store knows: not this
	// client's. It has not connected then.
	ClientID string
	// TakenOver: another client with this ClientID took the session over before, and
	// has used it. It has not connected then.
	TakenOver bool
}

// takenOver is the owner of a session that was ours and was taken over. No ClientID
// has a NUL in it.
const takenOver = "\x00taken over"

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

// Is makes it one of the sentinels.
func (e *SessionError) Is(target error) bool {
	unknown := e.Present || e.ClientID != "" || e.TakenOver
	return target == ErrUnknownSession && unknown || target == ErrSessionLost && !unknown
}

// sessionStore is the store as the session sees it: each session that is begun is
// noted as this client's.
type sessionStore struct {
	persistence.Store
	c *Client
}

func (s sessionStore) ResetSession() error { return s.c.voidSession(s.c.ClientID()) }

// knowsSession reports whether the store knows a session of ours. A server keeps
// one for each ClientID [MQTT-3.1.3-2], so what the store knows under another one
// is not ours: the first CONNACK makes it void, and before that nothing is sent.
func (c *Client) knowsSession() bool { return c.store.HasSession() && c.foreignSession() == "" }

// foreignSession is the ClientID of the session in the store, if it is not ours.
func (c *Client) foreignSession() string {
	if id := c.store.SessionClientID(); id != c.ClientID() {
		return id
	}
	return ""
}

// checkStore stops a strict client whose store belongs to another ClientID, before
// it connects: to the server there would be nothing wrong.
func (c *Client) checkStore() error {
	if id := c.foreignSession(); id != "" && c.cfg.Session.Mode == StrictSession && !c.cleanStart() {
		if id == takenOver {
			return &SessionError{TakenOver: true}
		}
		return &SessionError{ClientID: id}
	}
	return nil
}

// acceptSession refuses a session that the server has and our store knows
// nothing of: the connection must be closed [MQTT-3.2.2-4]. Our packet
// identifiers could meet those of messages that the server has half received,
// and it would swallow new messages as repetitions. The next attempt asks for a
// new session. (Asking for one right away would be simpler; mosquitto 2.0 does
// not save sessions that began so.)
func (c *Client) acceptSession(present bool) error {
	asked, known := c.cleanStart(), c.knowsSession()
	switch {
	case present && asked:
		return &wire.Error{Code: wire.ReasonProtocolError, Packet: wire.CONNACK,
			Detail: "Session Present is 1 although Clean Start was 1 [MQTT-3.2.2-2]"}
	case c.cfg.Session.Mode == StrictSession && !asked && present != known:
		return c.strict(&SessionError{Present: present})
	case !present || known:
		return nil
	}
	c.discard.Store(true)
	return ErrUnknownSession
}

// strict says goodbye to a session that is not the store's. The one that this
// CONNECT has begun must not be found by the next one and taken for ours. The
// will speaks, as at each end that is not the program's.
func (c *Client) strict(err *SessionError) error {
	bye := &link.Goodbye{Reason: wire.ReasonSuccess, Forget: !err.Present, Err: err}
	if c.cfg.Presence.Will != nil {
		bye.Reason = wire.ReasonDisconnectWithWill
	}
	return bye
}

// cleanStart is what CONNECT asks for.
func (c *Client) cleanStart() bool {
	// Without a Client Identifier there is nothing to resume, and some servers take
	// no CONNECT that asks for it.
	return c.discard.Load() || c.ClientID() == "" || c.cfg.Session.CleanStart && c.counters.connections.Load() == 0
}
