package mqtttest

import (
	"crypto/rand"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// connect handles the first packet, which must be a CONNECT [MQTT-3.1.0-1].
func (c *conn) connect(f wire.Frame) error {
	if f.Type() != wire.CONNECT {
		return errOver
	}
	if c.b.opts.MQTT311 && isV311(f) {
		c.v311 = true
		var err error
		if f, err = upgrade(f); err != nil {
			return err
		}
	}
	p, err := control.ParseConnect(f)
	if err != nil {
		return err
	}
	var ack control.Connack
	if p.ClientID == "" {
		p.ClientID = "auto-" + rand.Text()
		ack.AssignedClientID = p.ClientID
	}
	c.clientID = p.ClientID
	if reason, detail := c.admit(&p); reason != 0 {
		c.refuse(reason, detail)
		return errOver
	}
	c.accept(&p, &ack)
	return c.enter(&p, &ack)
}

// refuse answers with a CONNACK and ends the connection.
func (c *conn) refuse(reason byte, detail string) {
	b := c.b
	b.lock()
	defer b.unlock()
	c.connackOnly(reason, detail)
}

func (c *conn) connackOnly(reason byte, detail string) {
	if c.closing {
		return
	}
	c.b.stats.Refused++
	c.out = control.AppendConnack(c.out, &control.Connack{Reason: reason, ReasonString: detail})
	c.closing = true
	c.b.mark(c)
}

// admit returns the reason code with which a CONNECT is refused, or 0.
func (c *conn) admit(p *control.Connect) (reason byte, detail string) {
	o := &c.b.opts
	if p.AuthMethod != "" {
		return reasonBadAuthMethod, "enhanced authentication is not supported"
	}
	if reason := c.authenticate(p); reason != 0 {
		return reason, "authentication failed"
	}
	w := p.Will
	switch {
	case w == nil:
		return 0, ""
	case w.QoS > o.maxQoS():
		return wire.ReasonQoSNotSupported, "Will QoS is above the Maximum QoS"
	case w.Retain && o.DisableRetain:
		return wire.ReasonRetainNotSupported, "Will Retain is set and retained messages are not supported"
	}
	if reason := c.authorize(w.Topic, true); reason >= 0x80 {
		return reason, "the client may not publish to its Will Topic"
	}
	return 0, ""
}

// accept applies the limits that client and broker announce to each other.
func (c *conn) accept(p *control.Connect, ack *control.Connack) {
	o := &c.b.opts
	if p.ReceiveMaximum > 0 {
		c.receiveMax = int(p.ReceiveMaximum)
	}
	if p.MaximumPacketSize > 0 {
		c.maxPacket = p.MaximumPacketSize
	}
	if p.SessionExpiry > o.MaxSessionExpiry {
		p.SessionExpiry = o.MaxSessionExpiry
		ack.HasSessionExpiry, ack.SessionExpiry = true, p.SessionExpiry
	}
	if o.ServerKeepAlive > 0 {
		p.KeepAlive = o.ServerKeepAlive
		ack.HasServerKeepAlive, ack.ServerKeepAlive = true, p.KeepAlive
	}
	c.keepAlive = time.Duration(p.KeepAlive) * time.Second * 3 / 2 // [MQTT-3.1.2-22]
	if o.ReceiveMaximum < 65535 {
		ack.ReceiveMaximum = o.ReceiveMaximum
	}
	if o.maxQoS() < 2 {
		ack.HasMaximumQoS, ack.MaximumQoS = true, o.maxQoS()
	}
	ack.MaximumPacketSize = o.MaximumPacketSize
	ack.TopicAliasMaximum = o.TopicAliasMaximum
	ack.RetainUnavailable = o.DisableRetain
	ack.WildcardUnavailable = o.DisableWildcard
	ack.SubIDUnavailable = o.DisableSubID
	ack.SharedUnavailable = o.DisableShared
}

// enter attaches the connection to a new or an existing session. In the same event, it ends an
// older connection and an older session of the client, and publishes their wills.
func (c *conn) enter(p *control.Connect, ack *control.Connack) error {
	b := c.b
	b.lock()
	defer b.unlock()
	if b.closed || c.closing {
		return errOver
	}
	s := b.sessions[p.ClientID]
	if s == nil && len(b.sessions) >= b.opts.MaxSessions ||
		b.stats.Connections >= b.opts.MaxConnections && (s == nil || s.conn == nil) {
		c.connackOnly(wire.ReasonQuotaExceeded, "the broker has as many clients as it takes")
		return errOver
	}
	if s != nil && s.conn != nil {
		b.stats.TakenOver++
		s.conn.finish(wire.ReasonSessionTakenOver, "another connection uses this Client Identifier")
		b.detach(s, true)
	}
	if s = b.sessions[p.ClientID]; s != nil && p.CleanStart {
		b.endSession(s)
		s = nil
	}
	if ack.SessionPresent = s != nil; s != nil {
		s.resume()
	} else {
		s = b.newSession(p.ClientID)
	}
	s.conn, c.session = c, s
	s.expiry = p.SessionExpiry
	s.keeps = s.keeps || p.SessionExpiry > 0
	s.will = newWill(p.Will)
	s.flights.rewind()
	b.stats.Connections++
	b.stats.ConnectionsTotal++
	b.log.session(s)
	c.out = control.AppendConnack(c.out, ack)
	if c.keepAlive == 0 {
		_ = c.nc.SetReadDeadline(time.Time{}) // Read returns the error
	}
	c.packets = true
	b.mark(c)
	return nil
}
