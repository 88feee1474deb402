package control

import "github.com/mooring-mqtt/mooring/internal/wire"

// Disconnect is a DISCONNECT packet (section 3.14).
type Disconnect struct {
	Reason           byte
	HasSessionExpiry bool
	SessionExpiry    uint32 // seconds; only from a client
	ReasonString     string
	ServerReference  string // only from a server
	User             []wire.UserProperty
}

const disconnectReasons = "\x00\x04\x80\x81\x82\x83\x87\x89\x8B\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2"

// ParseDisconnect checks and decodes a DISCONNECT from either side. The error is a *wire.Error.
func ParseDisconnect(f wire.Frame) (c Disconnect, err error) {
	d := decode(f, wire.DISCONNECT)
	if len(d.b) > 0 {
		c.Reason = d.reason(disconnectReasons)
	}
	if len(d.b) > 0 {
		for props := d.properties(wire.DISCONNECT); ; {
			p, ok := props.Next()
			if !ok {
				break
			}
			switch p.ID {
			case wire.PropSessionExpiry:
				c.HasSessionExpiry, c.SessionExpiry = true, p.Int
			case wire.PropReasonString:
				c.ReasonString = string(p.Bytes)
			case wire.PropServerReference:
				c.ServerReference = string(p.Bytes)
			case wire.PropUser:
				c.User = append(c.User, userProperty(p))
			}
		}
	}
	return c, d.end()
}

// AppendDisconnect appends c in its shortest form.
func AppendDisconnect(dst []byte, c *Disconnect) []byte {
	var props []byte
	if c.HasSessionExpiry {
		props = wire.AppendProperty(props, wire.Property{ID: wire.PropSessionExpiry, Int: c.SessionExpiry})
	}
	props = text(props, wire.PropReasonString, c.ReasonString)
	props = text(props, wire.PropServerReference, c.ServerReference)
	return short(dst, wire.DISCONNECT, c.Reason, users(props, c.User))
}

// Auth is an AUTH packet (section 3.15).
type Auth struct {
	Reason       byte // 0x00 success, 0x18 continue, 0x19 re-authenticate
	Method       string
	Data         []byte // nil: absent
	ReasonString string
	User         []wire.UserProperty
}

// ParseAuth checks and decodes an AUTH. The error is a *wire.Error.
func ParseAuth(f wire.Frame) (a Auth, err error) {
	d := decode(f, wire.AUTH)
	if len(d.b) == 0 {
		return a, d.end()
	}
	a.Reason = d.reason("\x00\x18\x19")
	for props := d.properties(wire.AUTH); ; {
		p, ok := props.Next()
		if !ok {
			break
		}
		switch p.ID {
		case wire.PropAuthMethod:
			a.Method = string(p.Bytes)
		case wire.PropAuthData:
			a.Data = append([]byte{}, p.Bytes...)
		case wire.PropReasonString:
			a.ReasonString = string(p.Bytes)
		case wire.PropUser:
			a.User = append(a.User, userProperty(p))
		}
	}
	if a.Method == "" {
		d.violation("Authentication Method is missing")
	}
	return a, d.end()
}

// AppendAuth appends a in its shortest form.
func AppendAuth(dst []byte, a *Auth) []byte {
	props := text(nil, wire.PropAuthMethod, a.Method)
	props = binaryProperty(props, wire.PropAuthData, a.Data)
	props = text(props, wire.PropReasonString, a.ReasonString)
	return short(dst, wire.AUTH, a.Reason, users(props, a.User))
}

// short appends a packet and omits the parts that may be omitted because they have default values.
func short(dst []byte, t wire.Type, reason byte, props []byte) []byte {
	var body []byte
	switch {
	case len(props) > 0:
		body = section([]byte{reason}, props)
	case reason != 0 && t == wire.DISCONNECT:
		body = []byte{reason}
	case reason != 0:
		body = []byte{reason, 0}
	}
	return packet(dst, byte(t)<<4, body)
}

// ParsePing checks a PINGREQ or PINGRESP. The error is a *wire.Error.
func ParsePing(f wire.Frame) error {
	t := f.Type()
	if t != wire.PINGRESP {
		t = wire.PINGREQ
	}
	return decode(f, t).end()
}

// AppendPingreq appends a PINGREQ.
func AppendPingreq(dst []byte) []byte { return append(dst, byte(wire.PINGREQ)<<4, 0) }

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(wire.PINGRESP)<<4, 0) }
