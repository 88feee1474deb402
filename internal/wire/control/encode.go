package control

import (
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// packet appends a complete packet: header, length and body.
func packet(dst []byte, header byte, body []byte) []byte {
	dst = wire.AppendVarint(append(dst, header), uint32(len(body)))
	return append(dst, body...)
}

// section appends a property section with its length.
func section(dst, props []byte) []byte {
	return append(wire.AppendVarint(dst, uint32(len(props))), props...)
}

// number appends a numeric property, unless it is 0.
func number[N byte | uint16 | uint32](props []byte, id byte, value N) []byte {
	if value == 0 {
		return props
	}
	return wire.AppendProperty(props, wire.Property{ID: id, Int: uint32(value)})
}

// flag appends a byte property with the given value if on is true.
func flag(props []byte, id byte, on bool, value byte) []byte {
	if !on {
		return props
	}
	return wire.AppendProperty(props, wire.Property{ID: id, Int: uint32(value)})
}

// text appends a string property, unless it is empty.
func text(props []byte, id byte, value string) []byte {
	if value == "" {
		return props
	}
	return wire.AppendString(append(props, id), value)
}

// binaryProperty appends a binary property, unless it is nil.
func binaryProperty(props []byte, id byte, value []byte) []byte {
	if value == nil {
		return props
	}
	return wire.AppendString(append(props, id), value)
}

func users(props []byte, user []wire.UserProperty) []byte {
	for _, u := range user {
		props = wire.AppendString(append(props, wire.PropUser), u.Key)
		props = wire.AppendString(props, u.Value)
	}
	return props
}

func userProperty(p wire.Property) wire.UserProperty {
	return wire.UserProperty{Key: string(p.Bytes), Value: string(p.Value)}
}
