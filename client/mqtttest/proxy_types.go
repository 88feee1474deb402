package mqtttest

import "github.com/mooring-mqtt/mooring/internal/wire"

// Direction is the direction of bytes through a [Proxy].
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

// String returns the name in the specification.
func (t PacketType) String() string { return wire.Type(t).String() }

// Action is the decision of a [Proxy.OnPacket] hook about a packet. All earlier packets are
// delivered before a cut.
type Action byte

// Actions of an OnPacket hook.
const (
	ActionPass      Action = iota // forward the packet
	ActionDrop                    // read the whole packet, forward nothing of it, then cut
	ActionTear                    // forward the first half, then cut
	ActionCutBefore               // cut at once, without reading the rest
	ActionCutAfter                // forward the packet, then cut
)

// ProxyStats are the counters of a [Proxy].
type ProxyStats struct {
	Connections int // connections joined to the target
	Open        int // of those, still open
	Refused     int // closed at once, by Refuse or at the limit of open connections
	Blackholed  int // accepted and never answered
	DialErrors  int // closed because the target was unreachable
	Cuts        int // connections ended by a fault
	Stalls      int // calls of Stall and StallFor
	Torn        int // packets of which only a part was forwarded
	Lost        int // packets dropped as a whole: Lose, LoseNext, ActionDrop
	Opaque      int // streams (one per direction) that are not MQTT; packet faults do not apply to them

	ToServer, ToClient ProxyFlow
}

// ProxyFlow counts the forwarded bytes and packets of one direction.
type ProxyFlow struct {
	Bytes   int64 // written to the receiver
	Packets int64 // whole packets forwarded, if the stream is MQTT
}
