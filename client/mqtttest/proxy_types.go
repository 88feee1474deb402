package mqtttest

import "github.com/mooring-mqtt/mooring/internal/wire"

// Direction says which way bytes travel through a [Proxy].
type Direction byte

// The two directions.
const (
	ToServer Direction = iota // from the client to the broker
	ToClient                  // from the broker to the client
)

func (d Direction) String() string {
	if d == ToServer {
		return "to server"
	}
	return "to client"
}

func (d Direction) opposite() Direction { return ToServer + ToClient - d }

// PacketType is an MQTT Control Packet type, bits 7-4 of the fixed header
// (section 2.1.2).
type PacketType byte

// The control packets of MQTT 5.
const (
	CONNECT     = PacketType(wire.CONNECT)
	CONNACK     = PacketType(wire.CONNACK)
	PUBLISH     = PacketType(wire.PUBLISH)
	PUBACK      = PacketType(wire.PUBACK)
	PUBREC      = PacketType(wire.PUBREC)
	PUBREL      = PacketType(wire.PUBREL)
	PUBCOMP     = PacketType(wire.PUBCOMP)
	SUBSCRIBE   = PacketType(wire.SUBSCRIBE)
	SUBACK      = PacketType(wire.SUBACK)
	UNSUBSCRIBE = PacketType(wire.UNSUBSCRIBE)
	UNSUBACK    = PacketType(wire.UNSUBACK)
	PINGREQ     = PacketType(wire.PINGREQ)
	PINGRESP    = PacketType(wire.PINGRESP)
	DISCONNECT  = PacketType(wire.DISCONNECT)
	AUTH        = PacketType(wire.AUTH)
)

// String is the name the specification uses.
func (t PacketType) String() string { return wire.Type(t).String() }

// Action is what a [Proxy.OnPacket] hook wants done with a packet. Everything
// before the packet has been delivered when one of these cuts the connection.
type Action byte

// What can become of a packet.
const (
	ActionPass      Action = iota // let it through
	ActionDrop                    // take it in whole, pass nothing of it on, then cut: it is lost with the connection
	ActionTear                    // let the first half through, then cut
	ActionCutBefore               // cut at once, without taking in the rest of it
	ActionCutAfter                // let it through, then cut
)

// ProxyStats is what a [Proxy] has seen and done since it was made.
type ProxyStats struct {
	Connections int // joined to the target
	Open        int // of those, still there
	Refused     int // closed at once: Refuse, or over the limit of open connections
	Blackholed  int // accepted and never answered
	DialErrors  int // closed because the target could not be reached
	Cuts        int // connections ended by a fault; each one counts once
	Stalls      int // calls of Stall and StallFor
	Torn        int // packets of which only a part went through
	Lost        int // packets swallowed whole: Lose, LoseNext, ActionDrop
	Opaque      int // streams (one direction each) that are not MQTT; packet faults leave them alone

	ToServer, ToClient ProxyFlow
}

// ProxyFlow counts what went through in one direction.
type ProxyFlow struct {
	Bytes   int64 // written to the receiver
	Packets int64 // whole packets let through, as far as the stream is MQTT
}
