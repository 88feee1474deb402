package session

import (
	"cmp"
	"container/list"
	"encoding/binary"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// aliases holds the Topic Aliases that the client uses on one connection. A connection starts
// without aliases [MQTT-3.3.2-7]. A new topic replaces the least recently used one. Only encoders
// use aliases, so they are assigned in the order in which packets are written.
type aliases struct {
	max     int // maximum number of aliases
	limit   int // the server's Maximum Packet Size
	byTopic map[string]*list.Element
	recent  *list.List // of *alias, most recently used first
	bytes   int        // total length of the topics
	free    []uint16   // aliases that were used before and are unused now
	packets []byte     // encoded packets with their Topic Names
}

type alias struct {
	topic  string
	number uint16
}

// maxSpare is the maximum size of a buffer that is kept for the next call.
const maxSpare = 256 << 10

func newAliases(want uint16, l Limits) *aliases {
	n := int(min(want, l.TopicAliasMaximum)) // [MQTT-3.3.2-9]
	if n == 0 {
		return nil
	}
	limit := int(min(cmp.Or(l.MaximumPacketSize, wire.MaxPacketSize), wire.MaxPacketSize))
	return &aliases{max: n, limit: limit, byTopic: map[string]*list.Element{}, recent: list.New()}
}

// Publish sends the PUBLISH packets that encode appends. The packets must be complete and have no
// Topic Alias. If this connection uses aliases, Publish inserts them.
func (g *Generation) Publish(encode func(dst []byte) []byte) error {
	return g.w.Send(g.Encoder(encode))
}

// Encoder returns an encode function for PUBLISH packets that are complete and have no Topic Alias.
// If this connection uses aliases, the returned function inserts them.
func (g *Generation) Encoder(encode func(dst []byte) []byte) func(dst []byte) []byte {
	a := g.sending
	if a == nil {
		return encode
	}
	return func(dst []byte) []byte {
		a.packets = encode(a.packets[:0])
		for rest := a.packets; len(rest) > 0; {
			length, n := wire.Varint(rest[1:])
			size := 1 + n + int(length)
			dst = a.append(dst, rest[:size], 1+n)
			rest = rest[size:]
		}
		if cap(a.packets) > maxSpare {
			a.packets = nil
		}
		return dst
	}
}

// append appends one packet, whose topic starts at byte at. It inserts no alias if the topic is not
// longer than the alias property. It also inserts none if the packet with both the property and the
// topic would exceed the limit.
func (a *aliases) append(dst, packet []byte, at int) []byte {
	n := int(binary.BigEndian.Uint16(packet[at:]))
	if n <= wire.TopicAliasSize {
		return append(dst, packet...)
	}
	topic := packet[at+2 : at+2+n]
	if e, ok := a.byTopic[string(topic)]; ok {
		a.recent.MoveToFront(e)
		return wire.AppendAliased(dst, packet, e.Value.(*alias).number, true)
	}
	if wire.AliasedSize(packet) > a.limit {
		return append(dst, packet...)
	}
	return wire.AppendAliased(dst, packet, a.take(string(topic)), false)
}

// take assigns an alias to a topic: a new one, or the one of the least recently used topic. The
// total length of the topics is at most maxAliasBytes.
func (a *aliases) take(topic string) uint16 {
	for a.recent.Len() == a.max || a.bytes+len(topic) > maxAliasBytes {
		e := a.recent.Back()
		old := a.recent.Remove(e).(*alias)
		delete(a.byTopic, old.topic)
		a.bytes -= len(old.topic)
		a.free = append(a.free, old.number)
	}
	number := uint16(a.recent.Len() + 1) // never 0 [MQTT-3.3.2-8]
	if n := len(a.free); n > 0 {
		number, a.free = a.free[n-1], a.free[:n-1]
	}
	a.byTopic[topic] = a.recent.PushFront(&alias{topic, number})
	a.bytes += len(topic)
	return number
}
