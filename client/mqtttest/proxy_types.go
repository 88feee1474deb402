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

// String returns the name of the packet type in the MQTT specification.
func (t PacketType) String() string { return wire.Type(t).String() }

// Action is the decision of a [Proxy.OnPacket] hook about a packet. Before a cut, the proxy
// delivers all earlier packets.
type Action byte

// Actions of an OnPacket hook.
const (
	ActionPass      Action = iota // forward the packet
	ActionDrop                    // read the whole packet, forward none of it, and then cut the connection
	ActionTear                    // forward the first half of the packet, and then cut the connection
	ActionCutBefore               // cut the connection at once, without reading the rest of the packet
	ActionCutAfter                // forward the packet, and then cut the connection
)

// ProxyStats are the counters of a [Proxy].
type ProxyStats struct {
	Connections int // connections that were joined to the target
	Open        int // connections that were joined to the target and are still open
	Refused     int // connections that were closed at once, by Refuse or at the limit of open connections
	Blackholed  int // connections that were accepted and never answered
	DialErrors  int // connections that were closed because the target was unreachable
	Cuts        int // connections that a fault has ended
	Stalls      int // number of calls of Stall and StallFor
	Torn        int // packets of which only a part was forwarded
	Lost        int // packets that Lose, LoseNext or ActionDrop dropped
	// Opaque is the number of streams that are not MQTT. Each connection has two streams, one per
	// direction. Packet faults do not apply to these streams.
	Opaque int

	ToServer, ToClient ProxyFlow
}

// ProxyFlow counts the forwarded bytes and packets of one direction.
type ProxyFlow struct {
	Bytes   int64 // bytes that were written to the receiver
	Packets int64 // whole packets that were forwarded, if the stream is MQTT
}
