package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/link"
)

// Credentials are user name and password of one attempt to connect.
type Credentials struct {
	Username string // "": none
	Password []byte // nil: none
}

// hidden stands for a secret in a text.
const hidden = "xxxxx"

// The texts of Credentials hide the password, and a user name without a password, which may be a token.
func (c Credentials) String() string       { return url.UserPassword(c.shownUser(), hidden).String() }
func (c Credentials) GoString() string     { return fmt.Sprintf("client.Credentials(%q)", c.String()) }
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText returns String, so that JSON and the like hide the password too.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// shownUser returns the user name for texts.
func (c Credentials) shownUser() string {
	if c.Username != "" && len(c.Password) == 0 {
		return hidden
	}
	return c.Username
}

// TLSFiles are the files of a TLS connection, in PEM or DER, of up to 4 MiB each. They are
// read on each attempt to connect, so that a renewed file is used by the next. A file
// that is missing, half written or not read within ConnectTimeout fails the attempt
// with a *TLSFileError, and so do a certificate and a key that do not match. A file in
// another format (PKCS#12, PKCS#7, a key with a passphrase or of SSH, and the like) is
// refused by New, with the command that converts it. Certificates of CA that cannot be used
// are left out, if others can. The least version is TLS 1.2. Sessions are resumed, until a
// file changes.
type TLSFiles struct {
	CA   string // authorities to trust; default: the system's, as the process found them
	Cert string // the client's certificate and its chain; default: none
	Key  string // its key, without a passphrase; set if Cert is
	// ServerName is what the server's certificate must name. Default: the host of its URL.
	ServerName string
}

// ProxyFromEnvironment as Config.Connection.Proxy is the proxy that the environment names.
const ProxyFromEnvironment = link.FromEnvironment

// CredentialsError reports that Config.Connection.Credentials returned an error or
// panicked, returned what MQTT cannot carry (a *FieldError), or did not return in
// time. The client tries again.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("client: no credentials: %v; Config.Connection.Credentials is asked again at the next attempt", e.Err)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// SafeToRetry returns true: there was no connection.
func (*CredentialsError) SafeToRetry() bool { return true }

// WebSocketRequest is the HTTP request that opens a WebSocket, of one attempt to connect.
type WebSocketRequest struct {
	// URL is that of the server, with the scheme ws or wss. It may be changed, for example signed.
	URL *url.URL
	// Header is empty, for fields such as Origin, Authorization and Cookie. The client sets Upgrade,
	// Connection and Sec-WebSocket-* itself.
	Header http.Header
}

// WebSocketError reports that a WebSocket was not opened: by ConnectionConfig.WebSocketRequest, because
// the server refused it, or because its answer is invalid. The client connects again.
type WebSocketError struct {
	Server   string // host and port
	Status   int    // HTTP status of the server's answer; 0: none, or the answer was no refusal
	Reason   string // the text after Status
	Body     string // the beginning of the answer's body, printable, at most 1,024 bytes
	Location string // where a redirect leads to, without its query
	Err      error  // the error, where there is no Status
}

// Error names the server and the reason, and what to do about the status. Values of the request, which
// may be secret, are left out where the server repeats them.
func (e *WebSocketError) Error() string { return (*link.WebSocketError)(e).Error() }
func (e *WebSocketError) Unwrap() error { return e.Err }

// SafeToRetry returns true: there was no connection.
func (*WebSocketError) SafeToRetry() bool { return true }

// Authenticator is the client's side of enhanced authentication, section 4.12 of MQTT 5. Its
// methods are called one after the other in an exchange; a re-authentication that a lost connection
// cuts short may still be in one of them when the next connection begins. They must return when ctx
// ends. Data is at most 65,535 bytes; nil sends none, and in CONNECT so does empty data. An error
// ends the connection with DISCONNECT 0x80 and an *AuthError, and the client reconnects with
// backoff.
type Authenticator interface {
	// Method names the Authentication Method. It must not change.
	Method() string
	// Start returns the data of CONNECT, or of the AUTH that begins a re-authentication.
	Start(ctx context.Context) (data []byte, err error)
	// Continue answers a challenge of the server.
	Continue(ctx context.Context, challenge []byte) (data []byte, err error)
	// Done judges the data with which the server has accepted us.
	Done(ctx context.Context, data []byte) error
}
