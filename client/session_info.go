package client

import "time"

// SessionInfo is the client's own account of its session at the server, made from
// what CONNACK said and how long ago that was. Only the next CONNACK tells for
// certain, see Connected.SessionPresent and SessionLost.
type SessionInfo struct {
	// MayExist: the server can still have the session. False before the first one,
	// without a connection where none is kept (NoSession), and once it must have
	// expired.
	MayExist bool
	// Expiry is how long the server keeps it while we are away, as CONNACK had the
	// last word; 0 before the first CONNACK of this client. SessionForEver: it does
	// not end.
	Expiry time.Duration
	// Until is when the server gives it up unless we connect. Zero while connected,
	// for a session that does not end, and for one of an earlier process: how long
	// that has been away is not stored.
	Until time.Time
	// Lost is how often the server had no session although it should have had one.
	Lost uint64
}

// SessionForEver is a Session Expiry Interval of 0xFFFFFFFF: the session does not
// end by itself (section 3.1.2.11.2 of MQTT 5).
const SessionNeverExpires = (1<<32 - 1) * time.Second

// Session returns what the client knows of its session.
func (c *Client) Session() SessionInfo {
	if c == nil {
		return SessionInfo{}
	}
	c.mu.Lock()
	up, left := c.up, c.left
	c.mu.Unlock()
	info := SessionInfo{Expiry: time.Duration(c.granted.Load()), Lost: c.counters.sessionsLost.Load()}
	switch {
	case up != nil:
		info.MayExist = true
	case !left.IsZero():
		if info.MayExist = info.Expiry >= SessionNeverExpires; !info.MayExist {
			info.Until = left.Add(info.Expiry)
			info.MayExist = time.Now().Before(info.Until)
		}
	default:
		info.MayExist = c.knowsSession() && c.cfg.Session.Expiry != NoSession && !c.cfg.Session.CleanStart
	}
	return info
}
