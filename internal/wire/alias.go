package wire

import "encoding/binary"

// TopicAliasSize is the number of bytes of a Topic Alias as a property.
const TopicAliasSize = 3

// AliasedSize is the size of what AppendAliased appends for an alias that is not known.
func AliasedSize(packet []byte) int {
	_, _, length, n := split(packet)
	size := len(packet) - fixedHeader(packet) + TopicAliasSize + VarintLen(length+TopicAliasSize) - n
	return 1 + VarintLen(uint32(size)) + size
}

// AppendAliased appends a PUBLISH of AppendPublish or AppendImage with a Topic Alias. Where
// the server knows the topic by it, the Topic Name is left out. No other byte changes.
func AppendAliased(dst, packet []byte, alias uint16, known bool) []byte {
	topic, props, length, n := split(packet)
	head := fixedHeader(packet)
	grown := length + TopicAliasSize
	size := len(packet) - head + TopicAliasSize + VarintLen(grown) - n
	if known {
		size -= topic - head - 2
	}
	dst = AppendVarint(append(dst, packet[0]), uint32(size))
	if known {
		dst = append(dst, 0, 0)
	} else {
		dst = append(dst, packet[head:topic]...)
	}
	dst = append(dst, packet[topic:props]...)
	dst = AppendVarint(dst, grown)
	dst = binary.BigEndian.AppendUint16(append(dst, PropTopicAlias), alias)
	return append(dst, packet[props+n:]...)
}

// fixedHeader is the length of a packet's fixed header.
func fixedHeader(packet []byte) int {
	_, n := Varint(packet[1:])
	return 1 + n
}

// split finds where the Topic Name of a PUBLISH ends and where the Property Length begins,
// with its value and its own length.
func split(packet []byte) (topic, props int, length uint32, n int) {
	topic = fixedHeader(packet)
	topic += 2 + int(binary.BigEndian.Uint16(packet[topic:]))
	if props = topic; packet[0]&0x06 != 0 {
		props += 2
	}
	length, n = Varint(packet[props:])
	return topic, props, length, n
}
