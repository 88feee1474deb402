package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// Credentials are the user name and password for one attempt to connect.
type Credentials struct {
	Username string // "" for none
	Password []byte // nil for none
}

// hidden replaces a secret in a text.
const hidden = "xxxxx"

// String, GoString and LogValue hide the password, and a user name without a password, which may be
// a token.
func (c Credentials) String() string       { return url.UserPassword(c.shownUser(), hidden).String() }
func (c Credentials) GoString() string     { return fmt.Sprintf("client.Credentials(%q)", c.String()) }
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText returns String, so that JSON and other encodings also hide the password.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// shownUser returns the user name, or hidden if it may be a secret.
func (c Credentials) shownUser() string {
	if c.Username != "" && len(c.Password) == 0 {
		return hidden
	}
	return c.Username
}

// TLSFiles names the files for TLS connections, in PEM or DER, each up to 4 MiB. The client reads
// them on each attempt to connect, so it uses a renewed file on the next attempt. It resumes TLS
// sessions until a file changes. The minimum version is TLS 1.2.
//
// An attempt fails with a *TLSFileError if a file is missing, incomplete or not read within
// ConnectTimeout, or if certificate and key do not match. Invalid certificates in CA are ignored if
// another one is valid. New rejects files in other formats, such as PKCS#12, PKCS#7, SSH keys and
// keys with a passphrase. Its error contains the command that converts the file.
type TLSFiles struct {
	CA   string // trusted authorities; default: the system's, as read by the process
	Cert string // client certificate with its chain; default: none
	Key  string // private key for Cert, without a passphrase; required with Cert
	// ServerName is the name that the server's certificate must contain. Default: the host of its
	// URL.
	ServerName string
}

// ProxyFromEnvironment, as Config.Connection.Proxy, selects the proxy that the environment names.
const ProxyFromEnvironment = link.FromEnvironment

// CredentialsError reports that Config.Connection.Credentials failed: it returned an error,
// panicked, did not return in time, or returned values that MQTT cannot carry (a *FieldError). The
// client tries again.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("client: no credentials: %v; the next attempt calls Config.Connection.Credentials again", e.Err)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*CredentialsError) SafeToRetry() bool { return true }

// WebSocketRequest is the HTTP request that opens a WebSocket for one attempt to connect.
type WebSocketRequest struct {
	// URL is the server's URL, with the scheme ws or wss. It may be changed, for example to add a
	// signature.
	URL *url.URL
	// Header is initially empty. Set fields such as Origin, Authorization and Cookie. The client
	// sets Upgrade, Connection and Sec-WebSocket-*.
	Header http.Header
}

// WebSocketError reports that a WebSocket was not opened. ConnectionConfig.WebSocketRequest failed,
// the server refused the request, or the server's response is invalid. The client reconnects.
type WebSocketError struct {
	Server   string // host and port
	Status   int    // HTTP status of a refusal by the server; otherwise 0
	Reason   string // the text after Status
	Body     string // beginning of the response body, printable, up to 1,024 bytes
	Location string // target of a redirect, without its query
	Err      error  // error, if Status is 0
}

// Error names the server, the reason, and what to do about the status. It omits values of the
// request, which may be secret, if the server repeats them.
func (e *WebSocketError) Error() string { return (*link.WebSocketError)(e).Error() }
func (e *WebSocketError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*WebSocketError) SafeToRetry() bool { return true }

// Authenticator is the client's side of enhanced authentication (section 4.12 of MQTT 5). The
// methods of one exchange are called one after the other. If a lost connection interrupts a
// re-authentication, a method may still be running when the next connection begins. Methods must
// return when ctx ends.
//
// Data is limited to 65,535 bytes. nil sends no data; in CONNECT, empty data is not sent either. An
// error ends the connection with DISCONNECT 0x80 and an *AuthError. The client reconnects with
// backoff.
type Authenticator interface {
	// Method returns the Authentication Method. It must not change.
	Method() string
	// Start returns the data for CONNECT, or for the AUTH that begins a re-authentication.
	Start(ctx context.Context) (data []byte, err error)
	// Continue returns the data that answers a challenge of the server.
	Continue(ctx context.Context, challenge []byte) (data []byte, err error)
	// Done verifies the data with which the server accepted the client.
	Done(ctx context.Context, data []byte) error
}
