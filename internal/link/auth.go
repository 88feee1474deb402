package link

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Authenticator is the client's side of enhanced authentication (section 4.12).
type Authenticator interface {
	Method() string
	Start(ctx context.Context) (data []byte, err error)
	Continue(ctx context.Context, challenge []byte) (data []byte, err error)
	Done(ctx context.Context, data []byte) error
}

// AuthError reports that the Authenticator has ended the exchange.
type AuthError struct {
	Method string
	Err    error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("mqtt: authentication with method %q given up: %v; the client tries again", e.Method, e.Err)
}
func (e *AuthError) Unwrap() error { return e.Err }

// SafeToRetry returns false, because messages may have been sent on the connection.
func (*AuthError) SafeToRetry() bool { return false }

const (
	authContinue       byte = 0x18
	authReauthenticate byte = 0x19
)

// authentication is the state of a connection's authentication exchange. No AUTH reaches paho.
type authentication struct {
	Authenticator
	method string
	ctx    context.Context                 // of the connection attempt
	turn   chan struct{}                   // held during a re-authentication
	steps  atomic.Pointer[chan authPacket] // set while an AUTH of the client is unanswered
}

type authPacket struct {
	reason byte
	method string
	data   []byte
}

// refused returns the error that ends the connection after an error of the Authenticator.
func (a *authentication) refused(err error) error {
	return &CloseError{Reason: wire.ReasonUnspecifiedError, Err: &AuthError{Method: a.method, Err: err}}
}

// handleAuth handles an AUTH on the reader's goroutine. Before CONNACK, the reader itself continues
// the exchange. Afterwards, Reauthenticate continues it.
func (c *Conn) handleAuth(f wire.Frame, connecting bool) error {
	p, err := parseAuth(f.Body)
	if err != nil {
		return err
	}
	if c.auth == nil {
		return violation(wire.AUTH, "CONNECT named no Authentication Method [MQTT-4.12.0-6]")
	}
	steps := c.auth.steps.Load()
	switch {
	case p.method != c.auth.method:
		return violation(wire.AUTH, "its Authentication Method is not that of CONNECT [MQTT-4.12.0-5]")
	case connecting && p.reason != authContinue:
		return violation(wire.AUTH, "its reason code is not Continue authentication [MQTT-4.12.0-2]")
	case connecting:
		answer, err := c.auth.Continue(c.auth.ctx, p.data)
		if err != nil {
			return c.auth.refused(err)
		}
		return c.sendAuth(authContinue, answer)
	case steps == nil || p.reason == authReauthenticate:
		return violation(wire.AUTH, "it answers no AUTH of the client")
	}
	c.auth.steps.Store(nil) // the server must not send another AUTH before the client answers
	*steps <- p
	return nil
}

// checkMethod checks that an accepting CONNACK names the method of CONNECT. An unexpected method is
// refused, because the server believes in an exchange that did not happen.
func (c *Conn) checkMethod(f wire.Frame) error {
	if f.Body[1] != wire.ReasonSuccess {
		return nil
	}
	props, _, err := wire.SplitProperties(wire.CONNACK, f.Body[2:])
	if err != nil {
		return err
	}
	method := props.Find(wire.PropAuthMethod)
	switch {
	case c.auth == nil && method.ID != 0:
		return violation(wire.CONNACK, "it names an Authentication Method, and CONNECT named none [MQTT-4.12.0-6]")
	case c.auth != nil && (method.ID == 0 || string(method.Bytes) != c.auth.method):
		return violation(wire.CONNACK, "its Authentication Method is not that of CONNECT [MQTT-4.12.0-5]")
	}
	return nil
}

func checkAuthData(data []byte) error {
	if len(data) > wire.MaxString {
		return &wire.FieldError{Field: "Authentication Data", Problem: "is longer than 65,535 bytes; shorten it, it is never cut"}
	}
	return nil
}

// sendAuth sends an AUTH, unless the packet exceeds the server's limit.
func (c *Conn) sendAuth(reason byte, data []byte) error {
	if err := checkAuthData(data); err != nil {
		return c.auth.refused(err)
	}
	props := wire.AppendProperty(nil, wire.Property{ID: wire.PropAuthMethod, Bytes: []byte(c.auth.method)})
	if data != nil {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropAuthData, Bytes: data})
	}
	body := append(wire.AppendVarint([]byte{reason}, uint32(len(props))), props...)
	packet := append(wire.AppendVarint([]byte{byte(wire.AUTH) << 4}, uint32(len(body))), body...)
	if err := c.checkSize(len(packet)); err != nil {
		return c.auth.refused(err)
	}
	return c.Send(func(dst []byte) []byte { return append(dst, packet...) })
}

// Reauthenticate authenticates the client again and waits for the server's answer [MQTT-4.12.1-1].
// If Authenticator.Start fails, the connection stays up. Any other error ends the connection,
// because an exchange must not stay unfinished [MQTT-4.12.1-2].
func (u *Up) Reauthenticate(ctx context.Context) error {
	a := u.auth
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-u.Failed():
		return u.Cause()
	}
	data, err := a.Start(ctx)
	if err != nil {
		return &AuthError{Method: a.method, Err: err}
	}
	if err = u.exchange(ctx, data); err != nil {
		u.Fail(err)
	}
	return err
}

func (u *Up) exchange(ctx context.Context, data []byte) error {
	a := u.auth
	steps := make(chan authPacket, 1)
	defer a.steps.Store(nil)
	for reason := authReauthenticate; ; reason = authContinue {
		a.steps.Store(&steps)
		if err := u.sendAuth(reason, data); err != nil {
			return err
		}
		var p authPacket
		select {
		case p = <-steps:
		case <-u.Failed():
			return u.Cause()
		case <-ctx.Done():
			return a.refused(context.Cause(ctx))
		}
		var err error
		if p.reason != wire.ReasonSuccess {
			data, err = a.Continue(ctx, p.data)
		} else if err = a.Done(ctx, p.data); err == nil {
			return nil
		}
		if err != nil {
			return a.refused(err)
		}
	}
}

// parseAuth decodes an AUTH. An AUTH without a body means Success.
func parseAuth(body []byte) (p authPacket, err error) {
	if len(body) == 0 {
		return p, nil
	}
	p.reason = body[0]
	if err := wire.CheckServerReason(wire.AUTH, p.reason); err != nil {
		return p, err
	}
	props, err := wire.OnlyProperties(wire.AUTH, body[1:])
	p.method, p.data = string(props.Find(wire.PropAuthMethod).Bytes), bytes.Clone(props.Find(wire.PropAuthData).Bytes)
	return p, err
}
