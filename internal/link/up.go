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

// Up is a connection that the server has accepted. The pointer identifies the connection. The
// Observer sets the latches.
type Up struct {
	Ready      notify.Latch // unacknowledged unstored messages are resent and the birth is published; sending may start
	Subscribed notify.Latch // the server's subscriptions match the wanted ones, as far as the server answered

	*Conn
	Gen           *session.Generation
	Server        *url.URL
	Resumed       bool          // the same server continues the session of the previous connection
	KeepAlive     time.Duration // value in force
	SessionExpiry time.Duration // value in force; 0: the session ends with the connection
	Attempt       int           // number of the successful attempt; see End
	Took          time.Duration // duration of the successful attempt

	client     *paho.Client
	manager    pahosession.SessionManager // of client
	ackTimeout time.Duration
	since      time.Time // time of CONNACK
	assignID   bool      // CONNECT had no Client Identifier
	final      atomic.Pointer[Disconnect]
}

// Uptime returns the time since the server accepted the connection.
func (u *Up) Uptime() time.Duration { return time.Since(u.since) }

// ErrAckTimeout means that the server acknowledges nothing although messages are in flight, or a
// SUBSCRIBE or UNSUBSCRIBE is outstanding.
var ErrAckTimeout = errors.New("client: no acknowledgement within AckTimeout while messages are in flight; reconnecting")

// watchAcks closes a connection if no acknowledgement arrives within AckTimeout while messages are
// in flight.
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

// Disconnect describes the final DISCONNECT of a connection.
type Disconnect struct {
	Reason        byte
	ReasonString  string
	User          []wire.UserProperty
	SessionExpiry *uint32 // in seconds; nil: as in CONNECT
}

// Disconnect ends the connection with a DISCONNECT. Afterwards the Policy stops the link.
// Disconnect omits properties that would make the packet larger than the server accepts
// [MQTT-3.14.2-3] [MQTT-3.14.2-4].
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
