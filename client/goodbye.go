package client

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// DisconnectOptions is what CloseWith tells the server in its DISCONNECT. The zero value is
// what Close says: a normal end, so the will is forgotten, and a session that is
// kept as Config.Session.Expiry asked.
type DisconnectOptions struct {
	// Reason is the reason code: 0x00 for a normal end; 0x04 to have the server
	// publish the will, and then a Status leaves its last word to the will; or one
	// of those from 0x80 on that a client may send (table 3-13 of MQTT 5), on which
	// the server publishes the will too.
	Reason byte
	// ReasonString and UserProperties are for the server's log. Where they would
	// make the packet larger than the server takes, they are left out.
	ReasonString   string
	UserProperties []UserProperty
	// SessionExpiry is how long the server keeps the session from now on. Default:
	// as CONNECT said; NoSession ends it with the connection. Where Config has
	// NoSession it cannot be set (section 3.14.2.2.2 of MQTT 5).
	SessionExpiry time.Duration
}

// check says what cannot be sent.
func (g *DisconnectOptions) check(expiry time.Duration) error {
	switch {
	case !mayLeaveWith(g.Reason):
		return &FieldError{Field: "Reason", Problem: fmt.Sprintf("is 0x%02X (%s), which no client sends; use 0x00, 0x04, or an error that is the client's to report", g.Reason, reliability.ReasonName(g.Reason))}
	case g.SessionExpiry < 0 && g.SessionExpiry != NoSession:
		return &FieldError{Field: "SessionExpiry", Problem: "is negative; use 0 to leave it, a positive duration, or NoSession"}
	case g.SessionExpiry > 0 && expiry == NoSession:
		return &FieldError{Field: "SessionExpiry", Problem: "is set, but Config.Session.Expiry is NoSession, and the server would take it for a protocol error; leave it 0"}
	}
	if err := wire.CheckString("ReasonString", g.ReasonString); err != nil {
		return err
	}
	for _, u := range g.UserProperties {
		for _, s := range []string{u.Key, u.Value} {
			if err := wire.CheckString("UserProperties", s); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayLeaveWith reports whether a client may send this reason code in a
// DISCONNECT: table 3-13 of the specification.
func mayLeaveWith(code byte) bool {
	switch code {
	case 0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99:
		return true
	}
	return false
}

// CloseWith is Close with a choice of what the server is told. DisconnectOptions that
// cannot be sent is a *FieldError, and the client is not closed. Where it is
// ending already, the first word stands.
func (c *Client) CloseWith(g DisconnectOptions) error {
	if c == nil {
		return ErrNilClient
	}
	if err := g.check(c.cfg.Session.Expiry); err != nil {
		return err
	}
	return c.closeWith(g)
}

// goodbye ends a connection cleanly. Where the status says offline, or there is
// none, the server is told to forget the will; else it is asked to publish it.
func (c *Client) goodbye(up *link.Up) {
	c.mu.Lock()
	g := c.farewell
	c.mu.Unlock()
	if c.cfg.Presence.Status != nil && !c.sayGoodbye(up, g.Reason == wire.ReasonSuccess) && g.Reason == wire.ReasonSuccess {
		g.Reason = wire.ReasonDisconnectWithWill
	}
	// Not before that: the goodbye may have had to wait for the window, and leaves
	// with the acknowledgements then.
	c.stopAcks()
	c.within(up, c.answering.Wait)
	// A made-up ClientID dies with us: nobody could resume its session.
	if c.madeUpID && up.SessionExpiry > 0 {
		g.SessionExpiry = NoSession
	}
	word := link.Farewell{Reason: g.Reason, ReasonString: g.ReasonString, User: g.UserProperties}
	if g.SessionExpiry != 0 {
		expiry := seconds(max(g.SessionExpiry, 0))
		word.SessionExpiry = &expiry
		c.granted.Store(int64(time.Duration(expiry) * time.Second))
	}
	c.saidBye.Store(true)
	c.within(up, func() { _ = up.Disconnect(word) }) // there is nothing left to do about an error
}
