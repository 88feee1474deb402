package session

import (
	"errors"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

var (
	// ErrSessionLost: the server has lost the session in which the message was sent.
	ErrSessionLost = errors.New("mqtt: the server lost the session")
	// ErrWindowFull: the server's Receive Maximum leaves no room.
	ErrWindowFull = errors.New("mqtt: the server's Receive Maximum leaves no room; try again after an acknowledgement")
	// ErrNotConnected: the generation is not the current one.
	ErrNotConnected = errors.New("mqtt: not connected")
	// ErrIDsInUse: all packet identifiers for requests and unstored messages are in use.
	ErrIDsInUse = errors.New("mqtt: too many requests are outstanding; wait for one to finish")
)

// refuse is a violation by the server in a packet of type t.
func refuse(t wire.Type, code byte, detail string) error {
	return &wire.Error{Code: code, Packet: t, Detail: detail}
}
