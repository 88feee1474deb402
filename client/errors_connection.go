package client

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// ConnectionError reports that the server refused a connection (CONNACK) or ended it (DISCONNECT).
// The event that contains the error has the field Action, which is what the client does next.
type ConnectionError struct {
	Code            byte   // the reason code
	Reason          string // the server's reason string, up to 1,024 bytes; may be empty
	ServerReference string // address of the server to use instead, without password and query; may be empty
	Cause           error  // the received packet, as an error
}

func (e *ConnectionError) Error() string {
	s := fmt.Sprintf("client: the server sent %s (0x%02X)", reliability.ReasonName(e.Code), e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s + "; " + e.advice()
}

func (e *ConnectionError) ReasonCode() byte { return e.Code }
func (e *ConnectionError) Unwrap() error    { return e.Cause }

// SafeToRetry returns false, because messages may have been sent on the connection.
func (*ConnectionError) SafeToRetry() bool { return false }

// advice returns what to do about the reason code. After a refused CONNECT, StopPolicy decides
// whether the client stops. After a DISCONNECT, the client reconnects, except with TakeoverStop or
// StrictSession.
func (e *ConnectionError) advice() string {
	switch e.Code {
	case wire.ReasonBadUserNameOrPassword:
		return "check Username and Password, or what Credentials returns"
	case wire.ReasonBadAuthenticationMethod:
		return "the server does not support the method of Config.Connection.Auth, or requires one; set another method, or none"
	case 0x85: // Client Identifier not valid
		return "set a ClientID that the server accepts"
	case 0x8A: // Banned
		return "the server has banned this client; ask its administrator"
	case 0x84: // Unsupported Protocol Version
		return "the server does not support MQTT 5; use one that does"
	}
	class := reliability.Classify(e.Code)
	switch class {
	case reliability.NotAuthorized:
		return "check Username, Password or Credentials, and the server's access rules"
	case reliability.Redirect:
		if e.ServerReference != "" {
			return "set Servers to " + e.ServerReference
		}
		return "set Servers to its new address"
	case reliability.Takeover:
		return "another client uses the same ClientID; give each client its own"
	}
	if ended := (*link.DisconnectError)(nil); errors.As(e.Cause, &ended) {
		return "the client tries again"
	}
	switch class {
	case reliability.Fatal:
		return "check the configuration"
	case reliability.Invalid:
		return "the server rejects the Will or the Status; change it"
	case reliability.Protocol:
		return "the server rejects the client's CONNECT; check that it supports MQTT 5"
	}
	return "the client tries again"
}

// ProtocolError reports a violation of MQTT by the server. The client sends a DISCONNECT, ends the
// connection and reconnects with backoff.
type ProtocolError struct {
	Code   byte   // reason code of the client's DISCONNECT, such as 0x81, 0x82, 0x93, 0x94 or 0x95
	Packet string // name of the invalid packet, such as "PUBLISH"
	Detail string // describes the violation
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("mqtt: the server sent an invalid %s packet: %s (reason code 0x%02X)", e.Packet, e.Detail, e.Code)
}

func (e *ProtocolError) ReasonCode() byte { return e.Code }

// AuthError reports that the Authenticator returned an error. The client reconnects.
type AuthError struct {
	Method string
	Err    error // error that the Authenticator returned
}

func (e *AuthError) Error() string { return (*link.AuthError)(e).Error() }
func (e *AuthError) Unwrap() error { return e.Err }

// SafeToRetry returns false, because messages may have been sent on the connection.
func (*AuthError) SafeToRetry() bool { return false }

// TLSFileError reports an unusable file of ConnectionConfig.TLSFiles. The client reconnects and
// reads the file again. If a file has an unsupported format, New returns a *ConfigError that
// contains the TLSFileError.
type TLSFileError struct {
	File    string
	Err     error  // error of reading the file, or the problem with its content
	Format  string // the unsupported format of the file, such as "PKCS#12 (.p12, .pfx)"; otherwise empty
	Convert string // command that converts the file; empty if there is no such command
}

func (e *TLSFileError) Error() string { return (*link.TLSFileError)(e).Error() }
func (e *TLSFileError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*TLSFileError) SafeToRetry() bool { return true }

// ProxyError reports that the proxy cannot be reached or does not connect to the server.
type ProxyError struct {
	Proxy  string // URL of the proxy, without the password; a user name without a password is omitted too
	Server string // host and port of the server
	Status int    // HTTP status of the proxy's response; 0 without a response
	Reason string // text after the status in the proxy's response
	Err    error  // cause of the failure, if Status is 0
}

func (e *ProxyError) Error() string { return (*link.ProxyError)(e).Error() }
func (e *ProxyError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*ProxyError) SafeToRetry() bool { return true }

// InboundFullError reports that the client ended the connection because received messages took all
// of MaxBufferedBytes, and handlers freed no space within AckTimeout. On the next connection, the
// server resends the messages for which there was no space.
type InboundFullError struct {
	Limit int64 // value of ReceivingConfig.MaxBufferedBytes
}

func (*InboundFullError) ReasonCode() byte { return wire.ReasonQuotaExceeded }
func (e *InboundFullError) Error() string {
	return fmt.Sprintf("client: inbound buffer full (%d bytes): handlers freed no space within AckTimeout; make handlers faster, or raise Config.Receiving.MaxBufferedBytes", e.Limit)
}

// connectionError converts an error of package link.
func connectionError(err error) error {
	var (
		mismatch *link.SessionMismatchError
		closed   *link.CloseError
		refused  *link.ConnackError
		ended    *link.DisconnectError
	)
	switch {
	case errors.As(err, &mismatch) && mismatch.Owner == link.OwnerTakenOver:
		return &SessionError{TakenOver: true}
	case mismatch != nil:
		return &SessionError{Present: mismatch.Present, ClientID: mismatch.Owner}
	case errors.As(err, &closed):
		return publicError(closed.Err)
	case errors.As(err, &refused):
		return &ConnectionError{refused.Reason, refused.ReasonString, refused.ServerReference.String(), publicError(err)}
	case errors.As(err, &ended):
		return &ConnectionError{ended.Reason, ended.ReasonString, ended.ServerReference.String(), publicError(err)}
	}
	return publicError(err)
}

// publicError converts err, or wraps it so that errors.As finds the public types of the errors in
// it.
func publicError(err error) error {
	if public := converted(err); public != nil {
		return public
	}
	switch err.(type) {
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		return &linkError{err}
	}
	return err
}

// converted returns the public form of an internal error, or nil if it has none.
func converted(err error) error {
	switch e := err.(type) {
	case *wire.Error:
		return &ProtocolError{Code: e.Code, Packet: e.Packet.String(), Detail: e.Detail}
	case *wire.FieldError:
		return (*FieldError)(e)
	case *link.AuthError:
		return &AuthError{Method: e.Method, Err: publicError(e.Err)}
	case *link.TLSFileError:
		return (*TLSFileError)(e)
	case *link.ProxyError:
		return (*ProxyError)(e)
	case *link.WebSocketError:
		return (*WebSocketError)(e)
	}
	return nil
}

// linkError wraps an error that may contain errors of packages link and wire.
type linkError struct{ error }

func (e *linkError) Unwrap() error { return e.error }

// As finds wrapped errors under their public types.
func (e *linkError) As(target any) bool { return asPublic(e.error, target) }

func asPublic(err error, target any) bool {
	if public := converted(err); public != nil {
		return errors.As(public, target)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return asPublic(e.Unwrap(), target)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(err error) bool { return asPublic(err, target) })
	}
	return false
}

// waitEnded returns the cause that ended a wait. It adds last, which is the reason why there is no
// connection. last is nil if there is a connection.
func waitEnded(cause, last error) error {
	if last == nil {
		return cause
	}
	return fmt.Errorf("%w: not connected: %w", cause, last)
}
