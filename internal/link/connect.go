package link

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// connect makes one connection attempt.
func (l *Link) connect(ctx context.Context, server *url.URL) (*Up, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.ConnectTimeout)
	defer cancel()
	cp, err := l.connectPacket(ctx, server)
	if err != nil {
		return nil, err
	}
	inner, err := l.cfg.Dial(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", Redacted(server), err)
	}
	conn := newConn(inner, or(cp.Properties.MaximumPacketSize, 0), l.cfg.WriteTimeout)
	conn.will, conn.guard = l.cfg.WillProperties, l.cfg.Guard
	if l.cfg.Auth != nil {
		conn.auth = &authentication{Authenticator: l.cfg.Auth, method: cp.Properties.AuthMethod, ctx: ctx, turn: make(chan struct{}, 1)}
	}
	// paho ignores ctx while it writes. It observes ctx only while it waits for CONNACK.
	stop := context.AfterFunc(ctx, func() { conn.Fail(ctx.Err()) })
	defer stop()
	up := &Up{Conn: conn, Server: server, ackTimeout: l.cfg.AckTimeout, assignID: cp.ClientID == ""}
	up.manager = l.cfg.Session.Manager(func(ca *packets.Connack) error { return l.accepted(up, ca) })
	up.client = paho.NewClient(paho.ClientConfig{
		ClientID:      cp.ClientID,
		Conn:          conn,
		PingHandler:   pinger{conn},
		AuthHandler:   noAuth{},
		PacketTimeout: noTimeout,
		Session:       up.manager,
		// Without this function, paho would not close at once.
		OnServerDisconnect: func(*paho.Disconnect) {},
		OnClientError:      conn.setCause,
	})
	ca, err := up.client.Connect(ctx, cp)
	switch {
	case ca != nil && ca.ReasonCode >= 0x80:
		err = refusal(ca, connectSecrets(server, cp))
	case err == nil:
		up.negotiated(cp, ca)
		return up, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("no CONNACK from %s: %w", Redacted(server), ctx.Err())
	default:
		if cause := conn.Cause(); cause != nil && !errors.Is(err, cause) {
			err = cause
		}
		err = fmt.Errorf("connecting to %s: %w", Redacted(server), err)
	}
	conn.Fail(err)
	if up.Gen != nil {
		l.cfg.Session.Detach(up.Gen)
	}
	return nil, err
}

// connectPacket returns the CONNECT for one attempt.
func (l *Link) connectPacket(ctx context.Context, server *url.URL) (*paho.Connect, error) {
	cp := l.cfg.Connect
	cp.ClientID, cp.CleanStart = l.cfg.Identity.ClientID(), l.cfg.Identity.cleanStart()
	properties := or(cp.Properties, paho.ConnectProperties{}) // a copy
	cp.Properties = &properties
	if l.cfg.Credentials != nil {
		username, password, err := l.cfg.Credentials(ctx, server)
		if err != nil {
			return nil, err
		}
		cp.Username, cp.UsernameFlag = username, username != ""
		cp.Password, cp.PasswordFlag = password, len(password) > 0 || password != nil && username != ""
	}
	if l.cfg.Auth != nil {
		data, err := l.cfg.Auth.Start(ctx)
		if err == nil {
			err = checkAuthData(data) // otherwise paho would truncate it
		}
		if err != nil {
			return nil, &AuthError{Method: l.cfg.Auth.Method(), Err: err}
		}
		properties.AuthMethod, properties.AuthData = l.cfg.Auth.Method(), data
	}
	return &cp, nil
}

// negotiated records the values of CONNECT that CONNACK may have changed.
func (u *Up) negotiated(cp *paho.Connect, ca *paho.Connack) {
	keepAlive, expiry := cp.KeepAlive, or(cp.Properties.SessionExpiryInterval, 0)
	if p := ca.Properties; p != nil {
		keepAlive, expiry = or(p.ServerKeepAlive, keepAlive), or(p.SessionExpiryInterval, expiry)
	}
	u.KeepAlive, u.SessionExpiry = time.Duration(keepAlive)*time.Second, time.Duration(expiry)*time.Second
}

// or returns *p, or absent if p is nil.
func or[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}

// connectSecrets returns the secrets in CONNECT and in the server's URL.
func connectSecrets(server *url.URL, cp *paho.Connect) secrets {
	s := secretsOf(server, nil).add(string(cp.Password), string(cp.Properties.AuthData))
	if len(cp.Password) == 0 { // without a password, the user name may be a token
		s = s.add(cp.Username)
	}
	return s
}

// refusal returns the error for a refusing CONNACK. Its reason string may repeat secrets of
// CONNECT, which refusal removes.
func refusal(ca *paho.Connack, secret secrets) error {
	err := &ConnackError{Reason: ca.ReasonCode}
	if p := ca.Properties; p != nil {
		err.ReasonString, err.ServerReference = wire.ReasonText(secret.remove(p.ReasonString)), ServerReference(p.ServerReference)
	}
	violation := wire.CheckServerReason(wire.CONNACK, ca.ReasonCode)
	if ca.SessionPresent {
		violation = wire.Violation(wire.CONNACK, "Session Present is 1 in a refusal [MQTT-3.2.2-6]")
	}
	if violation != nil {
		return irregular(err, violation)
	}
	return err
}

// accepted handles an accepting CONNACK on the reader's goroutine. It finishes the authentication,
// checks to which client the session belongs, and begins the session's generation. If it returns an
// error, nothing was sent except a DISCONNECT.
func (l *Link) accepted(up *Up, ca *packets.Connack) error {
	limits := limitsOf(ca)
	if n := limits.MaximumPacketSize; n < minPacketSize {
		up.Fail(&PacketTooLargeError{Size: minPacketSize, Maximum: int(n)})
		return up.Cause()
	}
	up.maxSend.Store(limits.MaximumPacketSize)
	if err := l.checkConnack(up, ca); err != nil {
		up.Fail(err)
		if errors.Is(err, ErrSessionAdopted) {
			if failed := l.cfg.AdoptSession(); failed != nil {
				return failed // the session is still unknown
			}
		}
		return err
	}
	if l.cfg.Session.Begin(ca.SessionPresent) {
		if err := l.cfg.ResetSession(); err != nil {
			up.setCause(err)
			return err
		}
	}
	up.Gen = l.cfg.Session.Attach(up.Conn, limits)
	up.gen.Store(up.Gen)
	return nil
}

func (l *Link) checkConnack(up *Up, ca *packets.Connack) error {
	if a := up.auth; a != nil {
		if err := a.Done(a.ctx, ca.Properties.AuthData); err != nil {
			return a.refused(err)
		}
	}
	err := l.cfg.Identity.accept(ca.SessionPresent)
	var mismatch *SessionMismatchError
	switch {
	case errors.As(err, &mismatch):
		// End a session that this CONNECT has begun, so that the next CONNECT does not find it. The
		// will is published, because the application did not ask for this end.
		disconnect := &CloseError{Reason: wire.ReasonSuccess, EndSession: !mismatch.Present, Err: err}
		if l.cfg.Connect.WillMessage != nil {
			disconnect.Reason = wire.ReasonDisconnectWithWill
		}
		return disconnect
	case err != nil || !up.assignID:
		return err
	case ca.Properties == nil || ca.Properties.AssignedClientID == "":
		return violation(wire.CONNACK, "it assigns no Client Identifier, and CONNECT had none [MQTT-3.2.2-16]")
	}
	l.cfg.Identity.assign(ca.Properties.AssignedClientID)
	return nil
}

// minPacketSize is the size of an acknowledgement with a reason code. The server must accept it
// [MQTT-3.2.2-15].
const minPacketSize = 5

// limitsOf returns the limits in a CONNACK.
func limitsOf(ca *packets.Connack) session.Limits {
	p := or(ca.Properties, packets.Properties{})
	return session.Limits{
		ReceiveMaximum:    or(p.ReceiveMaximum, 0),
		MaximumPacketSize: min(or(p.MaximumPacketSize, wire.MaxPacketSize), wire.MaxPacketSize),
		MaximumQoS:        or(p.MaximumQOS, 2),
		TopicAliasMaximum: or(p.TopicAliasMaximum, 0),
		RetainAvailable:   or(p.RetainAvailable, 1) == 1,
		WildcardAvailable: or(p.WildcardSubAvailable, 1) == 1,
		SubIDAvailable:    or(p.SubIDAvailable, 1) == 1,
		SharedAvailable:   or(p.SharedSubAvailable, 1) == 1,
	}
}

// noAuth satisfies paho, which calls it for a CONNACK that names an Authentication Method. Conn
// passes no AUTH to paho, so it does nothing.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }
func (noAuth) Authenticated()                     {}
