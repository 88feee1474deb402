package wire

import "encoding/binary"

// TopicAliasSize is the number of bytes of a Topic Alias as a property.
const TopicAliasSize = 3

// AliasedSize is how many bytes AppendAliased appends for an alias that is not known yet.
func AliasedSize(packet []byte) int {
	start, _, _, length := split(packet)
	size := len(packet) - start + TopicAliasSize + VarintLen(length+TopicAliasSize) - VarintLen(length)
	return 1 + VarintLen(uint32(size)) + size
}

// AppendAliased appends a PUBLISH that AppendPublish or AppendImage made, whole and without
// a Topic Alias, with this one. If the server knows the topic by it, the Topic Name is left
// out. No other byte changes.
func AppendAliased(dst, packet []byte, alias uint16, known bool) []byte {
	start, topic, props, length := split(packet)
	name, rest := packet[start:topic], packet[props+VarintLen(length):]
	if known {
		name = []byte{0, 0}
	}
	grown := length + TopicAliasSize
	size := len(name) + props - topic + VarintLen(grown) + TopicAliasSize + len(rest)
	dst = AppendVarint(append(dst, packet[0]), uint32(size))
	dst = append(append(dst, name...), packet[topic:props]...)
	dst = append(AppendVarint(dst, grown), PropTopicAlias)
	dst = binary.BigEndian.AppendUint16(dst, alias)
	return append(dst, rest...)
}

// split finds the parts of a PUBLISH: where its Topic Name begins and ends, and where its
// properties begin, with their length.
func split(packet []byte) (start, topic, props int, length uint32) {
	_, n := Varint(packet[1:])
	start = 1 + n
	topic = start + 2 + int(binary.BigEndian.Uint16(packet[start:]))
	if props = topic; packet[0]&0x06 != 0 {
		props += 2 // Packet Identifier
	}
	length, _ = Varint(packet[props:])
	return start, topic, props, length
}
