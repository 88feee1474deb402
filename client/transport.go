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
	Username string // "" means no user name
	Password []byte // nil means no password
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

// TLSFiles names the files for TLS connections. Each file is in PEM or DER, and up to 4 MiB long.
// The client reads the files on each attempt to connect, so it uses a renewed file on the next
// attempt. The client resumes TLS sessions until a file changes. The minimum version is TLS 1.2.
//
// An attempt fails with a *TLSFileError if a file is missing, incomplete or not read within
// ConnectTimeout. An attempt also fails if the certificate and the key do not match. The client
// ignores invalid certificates in CA if another one is valid. New rejects files in other formats,
// such as PKCS#12, PKCS#7, SSH keys and keys with a passphrase. The error of New contains the
// command that converts the file.
type TLSFiles struct {
	CA   string // file of trusted certificate authorities; default: the system's, read once by the process
	Cert string // file of the client certificate with its chain; default: none
	Key  string // file of the private key for Cert, without a passphrase; required with Cert
	// ServerName is the name that the server's certificate must contain. Default: the host of its
	// URL.
	ServerName string
}

// ProxyFromEnvironment, as Config.Connection.Proxy, selects the proxy that is set in the
// environment variables.
const ProxyFromEnvironment = link.FromEnvironment

// CredentialsError reports that Config.Connection.Credentials failed. The function returned an
// error, panicked, did not return in time, or returned values that are invalid in MQTT. For invalid
// values, Err is a *FieldError. The client tries again.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("client: no credentials: %v; the next attempt calls Config.Connection.Credentials again", e.Err)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*CredentialsError) SafeToRetry() bool { return true }

// WebSocketRequest is the HTTP request that opens a WebSocket for one attempt to connect.
type WebSocketRequest struct {
	// URL is the server's URL, with the scheme ws or wss. The function may change the URL, for
	// example to add a signature.
	URL *url.URL
	// Header is initially empty. Set fields such as Origin, Authorization and Cookie. The client
	// itself sets the fields Upgrade, Connection and Sec-WebSocket-*.
	Header http.Header
}

// WebSocketError reports that the client could not open a WebSocket. Either
// ConnectionConfig.WebSocketRequest failed, or the server refused the request or sent an invalid
// response. The client reconnects.
type WebSocketError struct {
	Server   string // host and port of the server
	Status   int    // HTTP status with which the server refused the request, or 0
	Reason   string // text after the status in the server's response
	Body     string // beginning of the response body, printable, up to 1,024 bytes
	Location string // target of a redirect, without its query
	Err      error  // cause of the failure, if Status is 0
}

// Error returns a text that contains the server, the reason, and advice about the status. If the
// server repeats values of the request, Error omits them, because they may be secret.
func (e *WebSocketError) Error() string { return (*link.WebSocketError)(e).Error() }
func (e *WebSocketError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*WebSocketError) SafeToRetry() bool { return true }

// Authenticator is the client's side of enhanced authentication (section 4.12 of MQTT 5). During
// one exchange, the client calls the methods one after the other. If a lost connection interrupts a
// re-authentication, a method may still be running when the next connection begins. Methods must
// return when ctx ends.
//
// Data is limited to 65,535 bytes. If data is nil, the packet contains no data. In CONNECT, the
// client does not send empty data either. If a method returns an error, the client sends DISCONNECT
// 0x80 and ends the connection with an *AuthError. The client then reconnects with backoff.
type Authenticator interface {
	// Method returns the Authentication Method. The returned value must not change.
	Method() string
	// Start returns the data for CONNECT, or for the AUTH that begins a re-authentication.
	Start(ctx context.Context) (data []byte, err error)
	// Continue returns the data that answers a challenge of the server.
	Continue(ctx context.Context, challenge []byte) (data []byte, err error)
	// Done verifies the data with which the server accepted the client.
	Done(ctx context.Context, data []byte) error
}
