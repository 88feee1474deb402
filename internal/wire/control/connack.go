package control

import "github.com/mooring-mqtt/mooring/internal/wire"

// Connack is a CONNACK packet (section 3.2). The zero value of a property means that it is absent.
type Connack struct {
	SessionPresent bool
	Reason         byte

	HasSessionExpiry    bool
	SessionExpiry       uint32 // seconds
	ReceiveMaximum      uint16
	HasMaximumQoS       bool
	MaximumQoS          byte
	RetainUnavailable   bool
	MaximumPacketSize   uint32
	AssignedClientID    string
	TopicAliasMaximum   uint16
	ReasonString        string
	WildcardUnavailable bool
	SubIDUnavailable    bool
	SharedUnavailable   bool
	HasServerKeepAlive  bool
	ServerKeepAlive     uint16 // seconds
	ResponseInfo        string
	ServerReference     string
	AuthMethod          string
	AuthData            []byte // nil: absent
	User                []wire.UserProperty
}

const connackReasons = "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F"

// ParseConnack checks and decodes a CONNACK. The error is a *wire.Error.
func ParseConnack(f wire.Frame) (c Connack, err error) {
	d := decode(f, wire.CONNACK)
	flags := d.uint8("Connect Acknowledge Flags")
	if flags > 1 {
		d.malformed("reserved bits of the Connect Acknowledge Flags are set [MQTT-3.2.2-1]")
	}
	c.SessionPresent = flags == 1
	if c.Reason = d.reason(connackReasons); c.SessionPresent && c.Reason != 0 {
		d.violation("Session Present is set in a refusal [MQTT-3.2.2-6]")
	}
	for props := d.properties(wire.CONNACK); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		c.property(p)
	}
	if c.AuthData != nil && c.AuthMethod == "" {
		d.violation("Authentication Data is present without Authentication Method")
	}
	return c, d.end()
}

func (c *Connack) property(p wire.Property) {
	switch p.ID {
	case wire.PropSessionExpiry:
		c.HasSessionExpiry, c.SessionExpiry = true, p.Int
	case wire.PropReceiveMaximum:
		c.ReceiveMaximum = uint16(p.Int)
	case wire.PropMaximumQoS:
		c.HasMaximumQoS, c.MaximumQoS = true, byte(p.Int)
	case wire.PropRetainAvailable:
		c.RetainUnavailable = p.Int == 0
	case wire.PropMaximumPacketSize:
		c.MaximumPacketSize = p.Int
	case wire.PropAssignedClientID:
		c.AssignedClientID = string(p.Bytes)
	case wire.PropTopicAliasMaximum:
		c.TopicAliasMaximum = uint16(p.Int)
	case wire.PropReasonString:
		c.ReasonString = string(p.Bytes)
	case wire.PropWildcardSubAvailable:
		c.WildcardUnavailable = p.Int == 0
	case wire.PropSubscriptionIDAvail:
		c.SubIDUnavailable = p.Int == 0
	case wire.PropSharedSubAvailable:
		c.SharedUnavailable = p.Int == 0
	case wire.PropServerKeepAlive:
		c.HasServerKeepAlive, c.ServerKeepAlive = true, uint16(p.Int)
	case wire.PropResponseInfo:
		c.ResponseInfo = string(p.Bytes)
	case wire.PropServerReference:
		c.ServerReference = string(p.Bytes)
	case wire.PropAuthMethod:
		c.AuthMethod = string(p.Bytes)
	case wire.PropAuthData:
		c.AuthData = append([]byte{}, p.Bytes...)
	case wire.PropUser:
		c.User = append(c.User, userProperty(p))
	}
}

// AppendConnack appends c.
func AppendConnack(dst []byte, c *Connack) []byte {
	var present byte
	if c.SessionPresent {
		present = 1
	}
	var props []byte
	if c.HasSessionExpiry {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropSessionExpiry, Int: c.SessionExpiry})
	}
	props = number(props, wire.PropReceiveMaximum, c.ReceiveMaximum)
	props = flag(props, wire.PropMaximumQoS, c.HasMaximumQoS, c.MaximumQoS)
	props = flag(props, wire.PropRetainAvailable, c.RetainUnavailable, 0)
	props = number(props, wire.PropMaximumPacketSize, c.MaximumPacketSize)
	props = text(props, wire.PropAssignedClientID, c.AssignedClientID)
	props = number(props, wire.PropTopicAliasMaximum, c.TopicAliasMaximum)
	props = text(props, wire.PropReasonString, c.ReasonString)
	props = flag(props, wire.PropWildcardSubAvailable, c.WildcardUnavailable, 0)
	props = flag(props, wire.PropSubscriptionIDAvail, c.SubIDUnavailable, 0)
	props = flag(props, wire.PropSharedSubAvailable, c.SharedUnavailable, 0)
	if c.HasServerKeepAlive {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropServerKeepAlive, Int: uint32(c.ServerKeepAlive)})
	}
	props = text(props, wire.PropResponseInfo, c.ResponseInfo)
	props = text(props, wire.PropServerReference, c.ServerReference)
	props = text(props, wire.PropAuthMethod, c.AuthMethod)
	props = binaryProperty(props, wire.PropAuthData, c.AuthData)
	return packet(dst, byte(wire.CONNACK)<<4, section([]byte{present, c.Reason}, users(props, c.User)))
}
