package control

import (
	"encoding/binary"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Connect is a CONNECT packet (section 3.1). The zero value of a property means that it is absent.
type Connect struct {
	ClientID    string
	CleanStart  bool
	KeepAlive   uint16 // seconds; 0: no keep alive
	Will        *Will
	HasUsername bool
	Username    string
	Password    []byte // nil: absent

	SessionExpiry       uint32 // seconds; 0xFFFFFFFF: never
	ReceiveMaximum      uint16
	MaximumPacketSize   uint32
	TopicAliasMaximum   uint16
	RequestResponseInfo bool
	NoProblemInfo       bool // Request Problem Information is present and 0
	AuthMethod          string
	AuthData            []byte // nil: absent
	User                []wire.UserProperty
}

// Will is the Will Message in a CONNECT packet.
type Will struct {
	QoS     byte
	Retain  bool
	Delay   uint32 // Will Delay Interval in seconds
	Topic   string
	Payload []byte
	// Properties holds the other properties, encoded, in the order of receipt.
	Properties wire.Properties
}

// ReasonUnsupportedVersion is the code of the error for a CONNECT of another protocol version. A
// server answers it with CONNACK [MQTT-3.1.2-2].
const ReasonUnsupportedVersion byte = 0x84

const (
	connectCleanStart = 0x02
	connectWill       = 0x04
	connectWillRetain = 0x20
	connectPassword   = 0x40
	connectUsername   = 0x80
)

// ParseConnect checks and decodes a CONNECT. The error is a *wire.Error. Its code is
// ReasonUnsupportedVersion for MQTT 3.1 and 3.1.1, and the other fields of these packets are not
// checked.
func ParseConnect(f wire.Frame) (c Connect, err error) {
	d := decode(f, wire.CONNECT)
	if name := d.text("Protocol Name"); name != "MQTT" && name != "MQIsdp" {
		d.fail(ReasonUnsupportedVersion, "Protocol Name is %q, not \"MQTT\"", name)
	}
	if version := d.uint8("Protocol Version"); version != 5 {
		d.fail(ReasonUnsupportedVersion, "Protocol Version is %d; this side speaks 5 only", version)
	}
	flags := d.uint8("Connect Flags")
	willQoS := flags >> 3 & 3
	switch {
	case flags&1 != 0:
		d.malformed("the reserved bit of Connect Flags is set [MQTT-3.1.2-3]")
	case willQoS == 3:
		d.malformed("Will QoS is 3 [MQTT-3.1.2-12]")
	case flags&connectWill == 0 && flags&(connectWillRetain|0x18) != 0:
		d.malformed("Will QoS or Will Retain is set without Will Flag [MQTT-3.1.2-11] [MQTT-3.1.2-13]")
	}
	c.CleanStart = flags&connectCleanStart != 0
	c.KeepAlive = d.uint16("Keep Alive")
	c.properties(d)
	c.ClientID = d.text("Client Identifier")
	if flags&connectWill != 0 {
		c.Will = &Will{QoS: willQoS, Retain: flags&connectWillRetain != 0}
		c.Will.decode(d)
	}
	if flags&connectUsername != 0 {
		c.HasUsername, c.Username = true, d.text("User Name")
	}
	if flags&connectPassword != 0 {
		c.Password = d.binary("Password")
	}
	return c, d.end()
}

func (c *Connect) properties(d *decoder) {
	for props := d.properties(wire.CONNECT); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		switch p.ID {
		case wire.PropSessionExpiry:
			c.SessionExpiry = p.Int
		case wire.PropReceiveMaximum:
			c.ReceiveMaximum = uint16(p.Int)
		case wire.PropMaximumPacketSize:
			c.MaximumPacketSize = p.Int
		case wire.PropTopicAliasMaximum:
			c.TopicAliasMaximum = uint16(p.Int)
		case wire.PropRequestResponseInfo:
			c.RequestResponseInfo = p.Int == 1
		case wire.PropRequestProblemInfo:
			c.NoProblemInfo = p.Int == 0
		case wire.PropAuthMethod:
			c.AuthMethod = string(p.Bytes)
		case wire.PropAuthData:
			c.AuthData = append([]byte{}, p.Bytes...)
		case wire.PropUser:
			c.User = append(c.User, userProperty(p))
		}
	}
	if c.AuthData != nil && c.AuthMethod == "" {
		d.violation("Authentication Data is present without Authentication Method")
	}
}

func (w *Will) decode(d *decoder) {
	for props := d.properties(0); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		if p.ID == wire.PropWillDelay {
			w.Delay = p.Int
		} else {
			w.Properties = wire.AppendProperty(w.Properties, p)
		}
	}
	w.Topic = d.text("Will Topic")
	if d.err == nil && wire.CheckTopicName("Will Topic", w.Topic) != nil {
		d.fail(wire.ReasonTopicNameInvalid, "Will Topic is empty or contains a wildcard")
	}
	w.Payload = d.binary("Will Payload")
}

// AppendConnect appends c.
func AppendConnect(dst []byte, c *Connect) []byte {
	var flags byte
	set := func(bit byte, on bool) {
		if on {
			flags |= bit
		}
	}
	set(connectCleanStart, c.CleanStart)
	set(connectUsername, c.HasUsername)
	set(connectPassword, c.Password != nil)
	if c.Will != nil {
		set(connectWill|c.Will.QoS<<3, true)
		set(connectWillRetain, c.Will.Retain)
	}
	body := append(wire.AppendString(nil, "MQTT"), 5, flags)
	body = binary16(body, c.KeepAlive)

	props := number(nil, wire.PropSessionExpiry, c.SessionExpiry)
	props = number(props, wire.PropReceiveMaximum, c.ReceiveMaximum)
	props = number(props, wire.PropMaximumPacketSize, c.MaximumPacketSize)
	props = number(props, wire.PropTopicAliasMaximum, c.TopicAliasMaximum)
	props = flag(props, wire.PropRequestResponseInfo, c.RequestResponseInfo, 1)
	props = flag(props, wire.PropRequestProblemInfo, c.NoProblemInfo, 0)
	props = text(props, wire.PropAuthMethod, c.AuthMethod)
	props = binaryProperty(props, wire.PropAuthData, c.AuthData)
	body = section(body, users(props, c.User))

	body = wire.AppendString(body, c.ClientID)
	if w := c.Will; w != nil {
		body = section(body, append(number(nil, wire.PropWillDelay, w.Delay), w.Properties...))
		body = wire.AppendString(body, w.Topic)
		body = wire.AppendString(body, w.Payload)
	}
	if c.HasUsername {
		body = wire.AppendString(body, c.Username)
	}
	if c.Password != nil {
		body = wire.AppendString(body, c.Password)
	}
	return packet(dst, byte(wire.CONNECT)<<4, body)
}

func binary16(dst []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(dst, v) }
