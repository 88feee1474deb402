package session

import "errors"

var (
	// ErrSessionLost: the server no longer has the session that the message
	// was sent in.
	ErrSessionLost = errors.New("mqtt: the server lost the session")
	// ErrWindowFull: the server's Receive Maximum leaves no room now.
	ErrWindowFull = errors.New("mqtt: the server's Receive Maximum leaves no room; try again after an acknowledgement")
	// ErrNotConnected: the generation is not, or no longer, the current one.
	ErrNotConnected = errors.New("mqtt: not connected")
	// ErrIDsInUse: more requests are outstanding than identifiers are set aside for.
	ErrIDsInUse = errors.New("mqtt: too many requests are outstanding; wait for one to finish")
)
