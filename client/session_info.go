package client

import "time"

// SessionInfo describes what the client knows about its session at the server. The client derives
// it from the last CONNACK and the time since. Only the next CONNACK shows whether the session
// exists, see Connected.SessionPresent and SessionLost.
type SessionInfo struct {
	// MayExist reports whether the server may still have the session. MayExist is false before the
	// first session and after the session has expired. With NoSession, it is also false while the
	// client is disconnected.
	MayExist bool
	// Expiry is how long the server keeps the session while the client is disconnected, according
	// to the last CONNACK. Expiry is 0 before the first CONNACK, and SessionNeverExpires if the
	// session never expires.
	Expiry time.Duration
	// Until is when the session expires unless the client connects before. Until is zero while the
	// client is connected, and if the session never expires. Until is also zero if an earlier
	// process used the session, because the store does not contain the time at which that process
	// was disconnected.
	Until time.Time
	Lost  uint64 // how often the server had lost the session
}

// Session returns what the client knows about its session at the server.
func (c *Client) Session() SessionInfo {
	if c == nil {
		return SessionInfo{}
	}
	mayExist, expiry, until := c.identity.Session(time.Now())
	return SessionInfo{MayExist: mayExist, Expiry: expiry, Until: until, Lost: c.reports.count(lossSession)}
}
