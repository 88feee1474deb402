package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
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

// dialer is what opens transports, unless Config.Connection.Dial does.
func (c *Config) dialer() (*link.Dialer, error) {
	proxy, err := link.ParseProxy(c.Connection.Proxy)
	d := &link.Dialer{Proxy: proxy, TLS: c.TLS.Clone()}
	if c.Connection.TLSFiles != nil {
		files := link.TLSFiles(*c.Connection.TLSFiles)
		d.Files = &files
	}
	return d, err
}

// credentials returns the source of credentials for each attempt to connect.
func (c *Client) credentials() func(context.Context) (username string, password []byte, err error) {
	conf := &c.cfg.Connection
	if conf.Credentials == nil {
		return func(context.Context) (string, []byte, error) { return conf.Username, conf.Password, nil }
	}
	source := credentialSource{get: conf.Credentials, guard: &c.guard, turn: make(chan struct{}, 1)}
	return func(ctx context.Context) (string, []byte, error) {
		got, err := source.ask(ctx)
		if err == nil {
			err = fieldError(wire.CheckString("Username", got.Username))
		}
		if err == nil && len(got.Password) > wire.MaxString {
			err = &FieldError{Field: "Password", Problem: "is longer than 65,535 bytes; MQTT cannot carry it"}
		}
		if err != nil {
			return "", nil, &CredentialsError{Err: err}
		}
		return got.Username, got.Password, nil
	}
}

// credentialSource calls ConnectionConfig.Credentials, once at a time. A call that
// ignores its context is left behind, and the next attempt waits for it.
type credentialSource struct {
	get   func(context.Context) (Credentials, error)
	guard *callback.Guard
	turn  chan struct{} // held during a call
}

func (s *credentialSource) ask(ctx context.Context) (Credentials, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return Credentials{}, fmt.Errorf("the call before has not returned: %w", context.Cause(ctx))
	}
	type answer struct {
		Credentials
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		defer s.guard.Enter()()
		a := answer{err: errors.New("it ended its goroutine")}
		defer func() {
			if r := recover(); r != nil {
				a = answer{err: fmt.Errorf("it panicked: %v", r)}
			}
			<-s.turn
			answered <- a
		}()
		a.Credentials, a.err = s.get(ctx)
	}()
	select {
	case a := <-answered:
		return a.Credentials, a.err
	case <-ctx.Done():
		return Credentials{}, context.Cause(ctx)
	}
}

func (c Config) validateTransport(bad func(field, format string, args ...any) error) error {
	if _, err := link.ParseProxy(c.Connection.Proxy); err != nil {
		return bad("Connection.Proxy", "%v", err)
	}
	secure, network := false, false
	for _, s := range c.Servers {
		if u, err := link.ParseServer(s); err == nil {
			secure = secure || u.Scheme == "mqtts" || u.Scheme == "wss"
			network = network || u.Scheme != "unix"
		}
	}
	const alone = "is set together with Dial, which does without it; set one of both"
	f := c.Connection.TLSFiles
	switch {
	case c.Connection.Dial != nil && c.Connection.Proxy != "":
		return bad("Connection.Proxy", alone)
	case c.Connection.Dial != nil && c.TLS != nil:
		return bad("TLS", alone)
	case c.Connection.Dial != nil && f != nil:
		return bad("Connection.TLSFiles", alone)
	case c.TLS != nil && f != nil:
		return bad("Connection.TLSFiles", "is set together with TLS; set one of both")
	case f != nil && (f.Cert == "") != (f.Key == ""):
		return bad("Connection.TLSFiles", "has a Cert or a Key, and needs both or none")
	case f != nil && !secure:
		return bad("Connection.TLSFiles", "is set, but no server in Servers uses TLS; write mqtts:// or wss://")
	case c.Connection.Proxy != "" && c.Connection.Proxy != ProxyFromEnvironment && !network:
		return bad("Connection.Proxy", "is set, but Servers are Unix sockets, which no proxy leads to; leave it empty")
	case c.Connection.Credentials != nil && (c.Connection.Username != "" || c.Connection.Password != nil):
		return bad("Connection.Credentials", "is set together with Username or Password; let it return them")
	}
	return nil
}
