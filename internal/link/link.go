package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Config says how to connect, and whom to tell.
type Config struct {
	Servers           []*url.URL // tried in turn
	Dial              func(ctx context.Context, server *url.URL) (net.Conn, error)
	Connect           func(ctx context.Context) (*paho.Connect, error) // built anew for each attempt
	ConnectTimeout    time.Duration                                    // of one attempt, from dialing to CONNACK
	WriteTimeout      time.Duration                                    // of one write to the connection
	PacketTimeout     time.Duration                                    // for SUBACK and UNSUBACK
	MaximumPacketSize uint32                                           // ours; 0: none
	WillProperties    []byte                                           // encoded, for a CONNECT with a will; nil: no will
	Session           *session.Session
	Auth              Authenticator   // nil: no enhanced authentication
	Guard             *callback.Guard // is told of the goroutine that reads a connection; nil: none

	// Decide says what to do after each attempt that failed and each connection
	// that ended. Hurry ends the delay that it asked for; nil: nothing does.
	Decide func(End) Decision
	Hurry  <-chan struct{}

	// Accept has a last word on a CONNACK that accepts: an error closes the
	// connection before anything else is sent.
	Accept func(sessionPresent bool) error
	// Assigned is told the Client Identifier that the server gives us where CONNECT
	// had none. From then on Connect must name it.
	Assigned func(clientID string)

	Attempt func(server *url.URL, attempt int) // before each attempt; see End
	Up      func(*Up)                          // runs while the connection stands; must return soon after it ends
	Down    func(End, Decision)                // after each connection that was up, once Up has returned
	Failed  func(End, Decision)                // after each attempt that failed, but for one that ends Run
}

// Up is a connection that the server has accepted. The pointer is the identity of
// the connection: everything that depends on "which connection is this?" compares
// it, and nothing keeps a number of its own.
//
// Serve closes the latches, in any order.
type Up struct {
	Ready      notify.Latch // unacknowledged direct messages are resent and the birth is published: sending may start
	Subscribed notify.Latch // the server's subscription list is in line, as far as the server answered

	*Conn
	Gen              *session.Generation
	Server           *url.URL
	Connack          *paho.Connack
	KeepAlive        uint16        // seconds, after the server had its say
	AssignedClientID string        // empty: CONNECT had one
	SessionExpiry    time.Duration // in force, after the server had its say; 0: the session ends with the connection
	Attempt          int           // that it is the outcome of, see End
	Took             time.Duration // that attempt
	since            time.Time     // of its CONNACK
	patient          time.Duration // with requests
	client           *paho.Client
	nameless         bool // CONNECT had no Client Identifier
}

func (c *Config) connect(ctx context.Context, server *url.URL) (*Up, error) {
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	cp, err := c.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing CONNECT: %w", err)
	}
	if c.Auth != nil {
		data, err := c.Auth.Start(ctx)
		if err == nil {
			err = checkAuthData(data) // paho would cut it
		}
		if err != nil {
			return nil, &AuthError{Method: c.Auth.Method(), Err: err}
		}
		cp.Properties.AuthMethod, cp.Properties.AuthData = c.Auth.Method(), data
	}
	inner, err := c.Dial(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", server.Redacted(), err)
	}
	conn := newConn(inner, c.MaximumPacketSize, c.WriteTimeout)
	conn.will, conn.guard = c.WillProperties, c.Guard
	if c.Auth != nil {
		conn.authenticate(ctx, c.Auth, cp.Properties.AuthMethod)
	}
	// paho hears of ctx only while it waits for CONNACK, not while it writes.
	stop := context.AfterFunc(ctx, func() { conn.Fail(ctx.Err()) })
	defer stop()
	up := &Up{Conn: conn, Server: server, patient: c.PacketTimeout, KeepAlive: cp.KeepAlive, nameless: cp.ClientID == ""}
	if p := cp.Properties; p != nil && p.SessionExpiryInterval != nil {
		up.SessionExpiry = time.Duration(*p.SessionExpiryInterval) * time.Second
	}
	up.client = paho.NewClient(paho.ClientConfig{
		ClientID:      cp.ClientID,
		Conn:          conn,
		PingHandler:   pinger{conn},
		AuthHandler:   noAuth{},
		PacketTimeout: ever,
		Session:       c.Session.Manager(func(ca *packets.Connack) error { return c.accepted(up, ca) }),
		// Without this paho would not close at once.
		OnServerDisconnect: func(*paho.Disconnect) {},
		OnClientError:      func(err error) { conn.setCause(err) },
	})
	up.Connack, err = up.client.Connect(ctx, cp)
	switch {
	case up.Connack != nil && up.Connack.ReasonCode >= 0x80:
		err = refusal(up.Connack)
	case err == nil:
		if p := up.Connack.Properties; p != nil {
			if e := p.SessionExpiryInterval; e != nil {
				up.SessionExpiry = time.Duration(*e) * time.Second
			}
			if p.ServerKeepAlive != nil {
				up.KeepAlive = *p.ServerKeepAlive
			}
		}
		return up, nil
	case ctx.Err() != nil:
		err = fmt.Errorf("no CONNACK from %s: %w", server.Redacted(), ctx.Err())
	case conn.Cause() != nil && !errors.Is(err, conn.Cause()):
		err = fmt.Errorf("connecting to %s: %w", server.Redacted(), conn.Cause())
	default:
		err = fmt.Errorf("connecting to %s: %w", server.Redacted(), err)
	}
	conn.Fail(err)
	if up.Gen != nil {
		c.Session.Detach(up.Gen)
	}
	return nil, err
}

// refusal is a CONNACK that refuses, as an error.
func refusal(ca *paho.Connack) error {
	said := &ConnackError{Reason: ca.ReasonCode}
	if p := ca.Properties; p != nil {
		said.ReasonString, said.ServerReference = p.ReasonString, p.ServerReference
	}
	bad := wire.CheckServerReason(wire.CONNACK, ca.ReasonCode)
	if ca.SessionPresent {
		bad = &wire.Error{Code: wire.ReasonProtocolError, Packet: wire.CONNACK, Detail: "Session Present is 1 in a refusal [MQTT-3.2.2-6]"}
	}
	if bad != nil {
		return &irregular{said, bad}
	}
	return said
}

// accepted makes the generation of a CONNACK that accepts.
func (c *Config) accepted(up *Up, ca *packets.Connack) error {
	limits := session.Limits{MaximumPacketSize: wire.MaxPacketSize, MaximumQoS: 2, RetainAvailable: true, WildcardAvailable: true, SubIDAvailable: true, SharedAvailable: true}
	if p := ca.Properties; p != nil {
		if p.ReceiveMaximum != nil {
			limits.ReceiveMaximum = *p.ReceiveMaximum
		}
		if p.MaximumPacketSize != nil {
			limits.MaximumPacketSize = min(*p.MaximumPacketSize, wire.MaxPacketSize)
		}
		if p.MaximumQOS != nil {
			limits.MaximumQoS = *p.MaximumQOS
		}
		if p.TopicAliasMaximum != nil {
			limits.TopicAliasMaximum = *p.TopicAliasMaximum
		}
		limits.RetainAvailable = flag(p.RetainAvailable)
		limits.WildcardAvailable = flag(p.WildcardSubAvailable)
		limits.SubIDAvailable = flag(p.SubIDAvailable)
		limits.SharedAvailable = flag(p.SharedSubAvailable)
	}
	if n := limits.MaximumPacketSize; n < leastPacketSize {
		up.Fail(&PacketTooLargeError{Size: leastPacketSize, Maximum: int(n)})
		return up.Cause()
	}
	up.maxSend.Store(limits.MaximumPacketSize)
	if a := up.auth; a != nil {
		if err := a.Done(a.ctx, ca.Properties.AuthData); err != nil {
			err = a.refused(err)
			up.Fail(err)
			return err
		}
	}
	if c.Accept != nil {
		if err := c.Accept(ca.SessionPresent); err != nil {
			up.Fail(err)
			return err
		}
	}
	if up.nameless {
		if ca.Properties == nil || ca.Properties.AssignedClientID == "" {
			err := violation(wire.CONNACK, "it assigns no Client Identifier, and our CONNECT had none [MQTT-3.2.2-16]")
			up.Fail(err)
			return err
		}
		up.AssignedClientID = ca.Properties.AssignedClientID
		c.Assigned(up.AssignedClientID)
	}
	gen, err := c.Session.Attach(up.Conn, ca.SessionPresent, limits)
	if err != nil {
		up.setCause(err)
		return err
	}
	up.Gen = gen
	up.gen.Store(gen)
	return nil
}

// leastPacketSize is that of an acknowledgement with a reason code. A server
// that takes none cannot be spoken to [MQTT-3.2.2-15].
const leastPacketSize = 5

// flag is an availability flag, which is true when absent.
func flag(p *byte) bool { return p == nil || *p == 1 }

// noAuth is never asked: the Conn lets no AUTH through. But paho calls it for a
// CONNACK that names an Authentication Method.
type noAuth struct{}

func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }
func (noAuth) Authenticated()                     {}
