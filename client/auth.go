package client

import (
	"context"
	"errors"
)

// errNoneToAuthenticate is an ErrNotConnected with a text for Reauthenticate.
var errNoneToAuthenticate error = noneToAuthenticate{}

type noneToAuthenticate struct{}

func (noneToAuthenticate) Is(target error) bool { return target == ErrNotConnected }
func (noneToAuthenticate) SafeToRetry() bool    { return true }
func (noneToAuthenticate) Error() string {
	return "client: not connected; the next connection is authenticated anyway"
}

// Reauthenticate makes the server authenticate the present connection again. Reauthenticate waits
// for the answer, up to Config.Connection.ConnectTimeout. New connections do not need this call.
//
// Reauthenticate returns ErrNotConnected or an *AuthError, or a *ConnectionError or *ProtocolError
// if the server ends the connection. After an error, the connection has ended and the client
// reconnects. However, the connection stays up after an error of Authenticator.Start, and if ctx
// ended before the exchange began.
func (c *Client) Reauthenticate(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	if c.cfg.Connection.Auth == nil {
		return errors.New("client: cannot reauthenticate: Config.Connection.Auth is not set")
	}
	up := c.link.Current()
	if up == nil {
		return errNoneToAuthenticate
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Connection.ConnectTimeout)
	defer cancel()
	return connectionError(up.Reauthenticate(ctx))
}
