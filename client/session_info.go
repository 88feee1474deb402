package client

import "time"

// SessionInfo describes the client's session at the server, as far as the client knows. It is based
// on the last CONNACK and the time since. Only the next CONNACK is certain, see
// Connected.SessionPresent and SessionLost.
type SessionInfo struct {
	// MayExist reports whether the server may still have the session. It is false before the first
	// session, while disconnected with NoSession, and after the session has expired.
	MayExist bool
	// Expiry is how long the server keeps the session while the client is disconnected, as set in
	// CONNACK. It is 0 before the first CONNACK, and SessionNeverExpires for a session that never
	// expires.
	Expiry time.Duration
	// Until is when the session expires unless the client connects. It is zero while connected and
	// for a session that never expires. It is also zero for a session of an earlier process,
	// because the time of that process's disconnection is not stored.
	Until time.Time
	Lost  uint64 // how often the server did not have the session that it should have
}

// Session returns what the client knows about its session at the server.
func (c *Client) Session() SessionInfo {
	if c == nil {
		return SessionInfo{}
	}
	mayExist, expiry, until := c.identity.Session(time.Now())
	return SessionInfo{MayExist: mayExist, Expiry: expiry, Until: until, Lost: c.reports.count(lossSession)}
}
