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
// What is accepted and canonical is written again byte for byte. Canonical is
// the shortest form, as this package writes it: a PUBLISH with its properties in
// the order Message Expiry Interval, Payload Format Indicator, Topic Alias,
// Content Type, Response Topic, Correlation Data, Subscription Identifiers, User
// Properties, and without a Payload Format Indicator of 0 or an empty Content
// Type; an acknowledgement without reason code 0 where nothing follows it, and
// with no property but a Reason String that is not empty. Anything else that is
// accepted means the same once it was written so, but for the User Properties of
// acknowledgements, which are checked and not kept.
//
// All other packets pass through this package as whole frames, with their
// fixed header checked, and are encoded and decoded by paho.golang. The table
// of properties and the primitives cover all packets, so that a test broker
// can stand on the same ground.
package wire
