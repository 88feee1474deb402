package wire

import "strings"

// reasons lists the reason codes that a server may send in each packet, from the tables in the
// sections of the packets. For DISCONNECT it also contains 0x8C, which only table 2-6 lists, and
// 0x00, with which some servers end connections.
var reasons = [AUTH + 1]string{
	CONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F",
	PUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREC:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREL:     "\x00\x92",
	PUBCOMP:    "\x00\x92",
	SUBACK:     "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2",
	UNSUBACK:   "\x00\x11\x80\x83\x87\x8F\x91",
	DISCONNECT: "\x00\x80\x81\x82\x83\x87\x89\x8B\x8C\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2",
	AUTH:       "\x00\x18\x19",
}

// CheckServerReason returns an *Error if a server must not send this reason code in packet t.
func CheckServerReason(t Type, reason byte) error {
	if strings.IndexByte(reasons[t], reason) >= 0 {
		return nil
	}
	return Violation(t, "reason code 0x%02X does not belong to this packet", reason)
}
