package client

import "time"

// SessionInfo is what the client knows about its session at the server, from the last CONNACK and
// the time since. Only the next CONNACK is certain, see Connected.SessionPresent and SessionLost.
type SessionInfo struct {
	// MayExist: the server may still have the session. It is false before the first
	// session, while disconnected with NoSession, and once the session has expired.
	MayExist bool
	// Expiry is how long the server keeps the session while the client is disconnected, as CONNACK
	// set it. 0 before the first CONNACK of this client; SessionNeverExpires: it does not end.
	Expiry time.Duration
	// Until is when the session expires unless the client connects. It is zero while
	// connected, for a session that never expires, and for a session of an earlier
	// process: how long that has been disconnected is not stored.
	Until time.Time
	Lost  uint64 // times the server had no session although it should have had one
}

// Session returns what the client knows about its session at the server.
func (c *Client) Session() SessionInfo {
	if c == nil {
		return SessionInfo{}
	}
	mayExist, expiry, until := c.identity.Session(time.Now())
	return SessionInfo{MayExist: mayExist, Expiry: expiry, Until: until, Lost: c.reports.count(lossSession)}
}
