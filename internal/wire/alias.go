package wire

import "encoding/binary"

// TopicAliasSize is the number of bytes of a Topic Alias as a property.
const TopicAliasSize = 3

// AliasedSize returns the number of bytes that AppendAliased appends if the server does not know
// the alias yet.
func AliasedSize(packet []byte) int {
	start, _, _, length := split(packet)
	size := len(packet) - start + TopicAliasSize + VarintLen(length+TopicAliasSize) - VarintLen(length)
	return 1 + VarintLen(uint32(size)) + size
}

// AppendAliased appends a PUBLISH with a Topic Alias. packet must come from AppendPublish or
// AppendImage and have no Topic Alias. If the server already knows the topic by this alias, the
// Topic Name is omitted. All other bytes stay the same.
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

// split returns the positions of the parts of a PUBLISH: the start and end of the Topic Name, and
// the start and length of the properties.
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
