package link

import (
	"errors"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"
	pahosession "github.com/eclipse/paho.golang/paho/session"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Up is a connection that the server has accepted. The pointer is the identity of the
// connection. The Observer sets the latches.
type Up struct {
	Ready      notify.Latch // unacknowledged direct messages are resent and the birth is published: sending may start
	Subscribed notify.Latch // the server's subscription list is in line, as far as the server answered

	*Conn
	Gen           *session.Generation
	Server        *url.URL
	Resumed       bool          // the same server goes on with the session of the connection before
	KeepAlive     time.Duration // in force
	SessionExpiry time.Duration // in force; 0: the session ends with the connection
	Attempt       int           // that led to it, see End
	Took          time.Duration // that attempt

	client     *paho.Client
	manager    pahosession.SessionManager // of client
	ackTimeout time.Duration
	since      time.Time // of CONNACK
	assignID   bool      // CONNECT had no Client Identifier
	final      atomic.Pointer[Disconnect]
}

// Uptime is how long ago the server accepted the connection.
func (u *Up) Uptime() time.Duration { return time.Since(u.since) }

// ErrAckTimeout: messages are in flight, or a SUBSCRIBE or UNSUBSCRIBE is
// outstanding, and the server acknowledges nothing.
var ErrAckTimeout = errors.New("client: no acknowledgement within AckTimeout while messages are in flight; reconnecting")

// watchAcks closes a connection with messages in flight of which none is acknowledged.
func (u *Up) watchAcks() {
	tick := time.NewTicker(max(u.ackTimeout/4, time.Millisecond))
	defer tick.Stop()
	for idle := u.now(); ; {
		select {
		case <-u.failed:
			return
		case <-tick.C:
		}
		if now := u.now(); u.Gen.InFlight() == 0 || u.Stalled() || u.Gen.AwaitsStore() {
			idle = now
		} else if time.Duration(now-max(idle, u.lastAck.Load())) > u.ackTimeout {
			u.Fail(ErrAckTimeout)
			return
		}
	}
}

// Disconnect is the final DISCONNECT of a connection.
type Disconnect struct {
	Reason        byte
	ReasonString  string
	User          []wire.UserProperty
	SessionExpiry *uint32 // seconds; nil: as CONNECT said
}

// Disconnect ends the connection with a DISCONNECT; the Policy then stops the link. What would make
// the packet larger than the server accepts is omitted [MQTT-3.14.2-3] [MQTT-3.14.2-4].
func (u *Up) Disconnect(d Disconnect) error {
	u.final.Store(&d)
	props := &paho.DisconnectProperties{SessionExpiryInterval: d.SessionExpiry, ReasonString: d.ReasonString}
	for _, p := range d.User {
		props.User.Add(p.Key, p.Value)
	}
	packet := &paho.Disconnect{ReasonCode: d.Reason, Properties: props}
	if u.fits(packet.Packet()) != nil {
		props.User = nil
	}
	if u.fits(packet.Packet()) != nil {
		props.ReasonString = ""
	}
	return u.client.Disconnect(packet)
}

// Disconnecting reports whether Disconnect was called.
func (u *Up) Disconnecting() bool { return u.final.Load() != nil }
