package client

import (
	"context"
	"errors"
)

// Authenticator is the client's side of enhanced authentication, section 4.12 of
// MQTT 5. Its methods are called one after the other in an exchange; a
// re-authentication that a lost connection cuts short may still be in one of them
// when the next connection begins. They must return when ctx ends. The data of
// each is up to 65,535 bytes, and more is an error; nil sends none, and in CONNECT
// so does what is empty.
//
// An error ends the connection, with DISCONNECT 0x80 and a *AuthError; it is then
// tried again with backoff.
type Authenticator interface {
	// Method names the Authentication Method. It must not change.
	Method() string
	// Start returns the data of CONNECT, or of the AUTH that begins a
	// re-authentication.
	Start(ctx context.Context) (data []byte, err error)
	// Continue answers a challenge of the server.
	Continue(ctx context.Context, challenge []byte) (data []byte, err error)
	// Done judges the data with which the server has accepted us.
	Done(ctx context.Context, data []byte) error
}

// errNoneToAuthenticate is an ErrNotConnected with words that fit.
var errNoneToAuthenticate error = noneToAuthenticate{}

type noneToAuthenticate struct{}

func (noneToAuthenticate) Error() string {
	return "client: not connected; nothing is to be done, a new connection is authenticated anyway"
}

func (noneToAuthenticate) Is(target error) bool { return target == ErrNotConnected }

// Reauthenticate has the server authenticate this connection again, and waits for
// its answer, for Config.Connection.ConnectTimeout at most. Each new connection is
// authenticated anyway. Errors: ErrNotConnected; *AuthError; *ConnectionError or
// *ProtocolError if the server ends the connection over it. After an error but that
// of Authenticator.Start, or of ctx before its turn came, the connection has ended,
// and is made again.
func (c *Client) Reauthenticate(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	if c.cfg.Connection.Auth == nil {
		return errors.New("client: Config.Connection.Auth is not set; there is no method to authenticate again with")
	}
	up := c.current()
	if up == nil {
		return errNoneToAuthenticate
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Connection.ConnectTimeout)
	defer cancel()
	return connectionError(up.Reauthenticate(ctx))
}
