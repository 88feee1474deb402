// Package wire is mooring's data plane on the wire: it frames an MQTT 5 byte
// stream and encodes, decodes and validates the five packets that carry
// application messages (PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP).
//
// Decoding is a view: nothing is copied, nothing is allocated, and what
// [ParsePublish] returns is valid only as long as the frame it was read from.
// Encoding appends to a buffer of the caller's. A violation by the peer is an
// [*Error] that carries the reason code to put into DISCONNECT; a message that
// must not be sent is a [*FieldError] that names the field.
//
// All other packets pass through this package as whole frames, with their
// fixed header checked, and are encoded and decoded by paho.golang. The table
// of properties and the primitives cover all packets, so that a test broker
// can stand on the same ground.
package wire
