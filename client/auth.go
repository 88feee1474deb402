package client

import (
	"context"
	"errors"
)

// errNoneToAuthenticate is an ErrNotConnected with words that fit.
var errNoneToAuthenticate error = noneToAuthenticate{}

type noneToAuthenticate struct{}

func (noneToAuthenticate) Is(target error) bool { return target == ErrNotConnected }
func (noneToAuthenticate) SafeToRetry() bool    { return true }
func (noneToAuthenticate) Error() string {
	return "client: not connected; nothing is to be done, a new connection is authenticated anyway"
}

// Reauthenticate has the server authenticate this connection again, and waits for its answer, for
// Config.Connection.ConnectTimeout at most. Each new connection is authenticated anyway. Errors:
// ErrNotConnected; *AuthError; *ConnectionError or *ProtocolError if the server ends the connection
// over it. After an error but that of Authenticator.Start, or of ctx before its turn came, the
// connection has ended, and is made again.
func (c *Client) Reauthenticate(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	if c.cfg.Connection.Auth == nil {
		return errors.New("client: Config.Connection.Auth is not set; there is no method to authenticate again with")
	}
	up := c.link.Current()
	if up == nil {
		return errNoneToAuthenticate
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Connection.ConnectTimeout)
	defer cancel()
	return connectionError(up.Reauthenticate(ctx))
}
