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
// What is accepted and canonical is written again byte for byte; anything else that is
// accepted means the same when it is written again, except that the User Properties of
// acknowledgements are checked and not kept. Canonical is the shortest form: a PUBLISH
// with its properties in the order of [Publish.AppendProperties], without a Payload Format
// Indicator of 0 or an empty Content Type; an acknowledgement without reason code 0 where
// nothing follows it, and with no property but a Reason String that is not empty.
//
// All other packets pass as whole frames, with their fixed header checked. The table of
// properties and the primitives cover all packets.
package wire
