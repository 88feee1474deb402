package reliability

import (
	"cmp"
	"fmt"
)

// Class groups reason codes by what a client can do about them.
type Class uint8

const (
	Success   Class = iota + 1 // the server accepted the request
	Transient                  // the server cannot process the packet now, but may accept it later
	Busy                       // the server asks the client to slow down
	Quota                      // a limit is reached; time or an operator can lift it
	// NotAuthorized in an acknowledgement concerns the topic. In a CONNACK or DISCONNECT it
	// concerns the client.
	NotAuthorized
	Invalid  // this message, subscription or will cannot succeed unchanged, but others can
	Session  // the client and the server disagree about a packet identifier
	Protocol // the client or the server violated the protocol; the same packet will fail again
	Fatal    // the client cannot connect with this configuration
	Redirect // the client should use another server
	Takeover // another connection uses the same Client Identifier
)

var classNames = [...]string{
	Success: "success", Transient: "transient", Busy: "busy", Quota: "quota",
	NotAuthorized: "not authorized", Invalid: "invalid", Session: "session",
	Protocol: "protocol", Fatal: "fatal", Redirect: "redirect", Takeover: "takeover",
}

// String returns the name of the class in lower case.
func (c Class) String() string { return name(classNames[:], c, "class") }

// name returns the name of a constant, or kind(n) for other values.
func name[T ~uint8](names []string, n T, kind string) string {
	if int(n) < len(names) && names[n] != "" {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", kind, n)
}

// Counts reports whether the class counts as a failure for a [Breaker]. It returns true for
// Transient, Busy and Quota, which mean that the server cannot accept messages at present. The
// other classes concern one message, one topic, or the configuration of the client.
func (c Class) Counts() bool { return c == Transient || c == Busy || c == Quota }

// Retryable reports whether the same packet may succeed later. It returns true for Transient, Busy,
// Quota and Session.
func (c Class) Retryable() bool { return c.Counts() || c == Session }

// reasons contains the names of table 2-6 of MQTT 5. The table has three names for 0x00, depending
// on the packet. reasons contains the first one.
var reasons = [256]struct {
	name  string
	class Class
}{
	0x00: {"Success", Success},
	0x01: {"Granted QoS 1", Success},
	0x02: {"Granted QoS 2", Success},
	0x04: {"Disconnect with Will Message", Success},
	0x10: {"No matching subscribers", Success},
	0x11: {"No subscription existed", Success},
	0x18: {"Continue authentication", Success},
	0x19: {"Re-authenticate", Success},
	0x80: {"Unspecified error", Transient},
	0x81: {"Malformed Packet", Protocol},
	0x82: {"Protocol Error", Protocol},
	0x83: {"Implementation specific error", Transient},
	0x84: {"Unsupported Protocol Version", Fatal},
	0x85: {"Client Identifier not valid", Fatal},
	0x86: {"Bad User Name or Password", Fatal},
	0x87: {"Not authorized", NotAuthorized},
	0x88: {"Server unavailable", Transient},
	0x89: {"Server busy", Busy},
	0x8A: {"Banned", Fatal},
	0x8B: {"Server shutting down", Transient},
	0x8C: {"Bad authentication method", Fatal},
	0x8D: {"Keep Alive timeout", Transient},
	0x8E: {"Session taken over", Takeover},
	0x8F: {"Topic Filter invalid", Invalid},
	0x90: {"Topic Name invalid", Invalid},
	0x91: {"Packet Identifier in use", Session},
	0x92: {"Packet Identifier not found", Session},
	0x93: {"Receive Maximum exceeded", Protocol},
	0x94: {"Topic Alias invalid", Protocol},
	0x95: {"Packet too large", Invalid},
	0x96: {"Message rate too high", Busy},
	0x97: {"Quota exceeded", Quota},
	0x98: {"Administrative action", Transient},
	0x99: {"Payload format invalid", Invalid},
	0x9A: {"Retain not supported", Invalid},
	0x9B: {"QoS not supported", Invalid},
	0x9C: {"Use another server", Redirect},
	0x9D: {"Server moved", Redirect},
	0x9E: {"Shared Subscriptions not supported", Invalid},
	0x9F: {"Connection rate exceeded", Busy},
	0xA0: {"Maximum connect time", Transient},
	0xA1: {"Subscription Identifiers not supported", Invalid},
	0xA2: {"Wildcard Subscriptions not supported", Invalid},
}

// Classify returns the class of an MQTT 5 reason code. The class of an undefined code is Success
// below 0x80, and Transient from 0x80 on (section 2.4).
func Classify(code byte) Class {
	if code < 0x80 {
		return Success
	}
	return cmp.Or(reasons[code].class, Transient)
}

// ReasonName returns the name of a reason code in the MQTT 5 specification. For an undefined code,
// it returns "Unknown (0x..)".
func ReasonName(code byte) string {
	if n := reasons[code].name; n != "" {
		return n
	}
	return fmt.Sprintf("Unknown (0x%02X)", code)
}
