package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// Credentials are what one attempt to connect says of us.
type Credentials struct {
	Username string // "": none
	Password []byte // nil: none
}

// String leaves the password out.
func (c Credentials) String() string { return url.UserPassword(c.Username, "xxxxx").String() }

// GoString leaves the password out.
func (c Credentials) GoString() string { return fmt.Sprintf("client.Credentials(%q)", c.String()) }

// LogValue leaves the password out.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// TLSFiles are the files of a TLS connection, in PEM, of up to 4 MiB each. They
// are read again on each attempt to connect, so that a certificate, key or
// authority that was renewed is used by the next. A file that is missing, or half
// written, is a *TLSFileError, and tried again. Certificate and key of different
// age are one, too; write both before the connection needs them. So is a file system
// that hangs for longer than ConnectTimeout.
//
// TLS 1.2 is the least. Sessions are resumed, until a file changes.
type TLSFiles struct {
	CA   string // authorities to trust; default: the system's, as the process found them
	Cert string // the client's certificate, and its chain behind it; default: none
	Key  string // its key, without a pass phrase; set if Cert is
	// ServerName is what the server's certificate must name. Default: the host of
	// its URL.
	ServerName string
}

// ProxyFromEnvironment as Config.Connection.Proxy is the proxy that the environment names.
const ProxyFromEnvironment = link.FromEnvironment

// CredentialsError says that Config.Connection.Credentials returned an error or panicked, or
// what MQTT cannot carry (a *FieldError), or nothing in time. The link goes on
// trying.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("client: no credentials: %v; Config.Connection.Credentials is asked again at the next attempt", e.Err)
}

// Unwrap returns Err.
func (e *CredentialsError) Unwrap() error { return e.Err }

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
