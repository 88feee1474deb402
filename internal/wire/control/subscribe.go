package control

import (
	"strings"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Subscribe is a SUBSCRIBE packet (section 3.8).
type Subscribe struct {
	PacketID       uint16
	SubscriptionID uint32 // 0: absent
	User           []wire.UserProperty
	Subscriptions  []Subscription // at least one
}

// Subscription is one Topic Filter with its Subscription Options.
type Subscription struct {
	Filter            string
	QoS               byte // maximum QoS
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0: send retained messages; 1: only for a new subscription; 2: never
}

// ParseSubscribe checks and decodes a SUBSCRIBE. It does not check whether a Topic Filter is
// well-formed, because the server answers an invalid filter with its own reason code (see
// wire.CheckTopicFilter). The error is a *wire.Error.
func ParseSubscribe(f wire.Frame) (s Subscribe, err error) {
	d := decode(f, wire.SUBSCRIBE)
	s.PacketID = d.packetID()
	for props := d.properties(wire.SUBSCRIBE); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		switch p.ID {
		case wire.PropSubscriptionID:
			s.SubscriptionID = p.Int
		case wire.PropUser:
			s.User = append(s.User, userProperty(p))
		}
	}
	if len(d.b) == 0 {
		d.violation("it has no Topic Filter [MQTT-3.8.3-2]")
	}
	for len(d.b) > 0 {
		s.Subscriptions = append(s.Subscriptions, subscription(d))
	}
	return s, d.end()
}

func subscription(d *decoder) (s Subscription) {
	s.Filter = filter(d)
	options := d.uint8("Subscription Options")
	s.QoS, s.RetainHandling = options&3, options>>4&3
	s.NoLocal, s.RetainAsPublished = options&4 != 0, options&8 != 0
	switch {
	case options&0xC0 != 0:
		d.malformed("reserved bits of the Subscription Options are set [MQTT-3.8.3-5]")
	case s.QoS == 3:
		d.violation("Maximum QoS is 3")
	case s.RetainHandling == 3:
		d.violation("Retain Handling is 3")
	case s.NoLocal && strings.HasPrefix(s.Filter, "$share/"):
		d.violation("No Local is set on a Shared Subscription [MQTT-3.8.3-4]")
	}
	return s
}

func filter(d *decoder) string {
	s := d.text("Topic Filter")
	if s == "" {
		d.violation("Topic Filter is empty [MQTT-4.7.3-1]")
	}
	return s
}

// AppendSubscribe appends s.
func AppendSubscribe(dst []byte, s *Subscribe) []byte {
	body := binary16(nil, s.PacketID)
	body = section(body, users(number(nil, wire.PropSubscriptionID, s.SubscriptionID), s.User))
	for _, sub := range s.Subscriptions {
		options := sub.QoS | sub.RetainHandling<<4
		if sub.NoLocal {
			options |= 4
		}
		if sub.RetainAsPublished {
			options |= 8
		}
		body = append(wire.AppendString(body, sub.Filter), options)
	}
	return packet(dst, byte(wire.SUBSCRIBE)<<4|2, body)
}

// Unsubscribe is an UNSUBSCRIBE packet (section 3.10).
type Unsubscribe struct {
	PacketID uint16
	User     []wire.UserProperty
	Filters  []string // at least one
}

// ParseUnsubscribe checks and decodes an UNSUBSCRIBE. The error is a *wire.Error.
func ParseUnsubscribe(f wire.Frame) (u Unsubscribe, err error) {
	d := decode(f, wire.UNSUBSCRIBE)
	u.PacketID = d.packetID()
	for props := d.properties(wire.UNSUBSCRIBE); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		u.User = append(u.User, userProperty(p))
	}
	if len(d.b) == 0 {
		d.violation("it has no Topic Filter [MQTT-3.10.3-2]")
	}
	for len(d.b) > 0 {
		u.Filters = append(u.Filters, filter(d))
	}
	return u, d.end()
}

// AppendUnsubscribe appends u.
func AppendUnsubscribe(dst []byte, u *Unsubscribe) []byte {
	body := section(binary16(nil, u.PacketID), users(nil, u.User))
	for _, f := range u.Filters {
		body = wire.AppendString(body, f)
	}
	return packet(dst, byte(wire.UNSUBSCRIBE)<<4|2, body)
}
