package link

import (
	"encoding/binary"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

const willFlag = 0x04

// withWill inserts the Will Properties into an encoded CONNECT that has a will. paho.golang v0.23.0
// omits all of them except the delay.
func withWill(packet, properties []byte) []byte {
	_, n := wire.Varint(packet[1:])
	body := packet[1+n:]
	flags := 2 + int(binary.BigEndian.Uint16(body)) + 1 // after the protocol name and version
	if body[flags]&willFlag == 0 {
		return packet
	}
	at := flags + 1 + 2 // keep alive
	length, n := wire.Varint(body[at:])
	at += n + int(length)
	at += 2 + int(binary.BigEndian.Uint16(body[at:])) // client identifier
	length, n = wire.Varint(body[at:])
	rest := body[at+n+int(length):]

	size := at + wire.VarintLen(uint32(len(properties))) + len(properties) + len(rest)
	out := wire.AppendVarint([]byte{packet[0]}, uint32(size))
	out = append(out, body[:at]...)
	out = wire.AppendVarint(out, uint32(len(properties)))
	out = append(out, properties...)
	return append(out, rest...)
}
