package session

import (
	"errors"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ErrSessionLost is the result of unstored messages of a lost session. The other errors reject a
// message or a request.
var (
	ErrSessionLost  = errors.New("mqtt: the server lost the session")
	ErrWindowFull   = errors.New("mqtt: the server's Receive Maximum leaves no room; try again after an acknowledgement")
	ErrNotConnected = errors.New("mqtt: not connected") // the generation is not the current one
	ErrIDsInUse     = errors.New("mqtt: too many requests are outstanding; wait for one to finish")
)

// refuse returns the error for a violation by the server in a packet of type t.
func refuse(t wire.Type, code byte, detail string) error {
	return &wire.Error{Code: code, Packet: t, Detail: detail}
}
