// Package wire implements mooring's data plane on the wire. It splits an MQTT 5 byte stream into
// frames. It encodes, decodes and validates the five packets that carry application messages:
// PUBLISH, PUBACK, PUBREC, PUBREL and PUBCOMP. Of all other packets it checks only the fixed
// header. The table of properties and the primitives cover these packets too.
//
// Decoding does not copy or allocate. The result of [ParsePublish] is a view that is valid as long
// as the frame from which it was parsed. Encoding appends to the caller's buffer. A violation by
// the peer is an [*Error] with the reason code for DISCONNECT. A message that must not be sent is a
// [*FieldError] with the name of the field.
//
// If a canonical packet is accepted and encoded again, the bytes are the same. The canonical form
// is the shortest one, as this package writes it. A canonical PUBLISH has its properties in the
// order of [Publish.AppendProperties], and has no Payload Format Indicator of 0 and no empty
// Content Type. A canonical acknowledgement has no final reason code 0, and has no property except
// a non-empty Reason String. Any other accepted packet has the same meaning after it is encoded
// again. The exception is the User Properties of acknowledgements: they are checked and dropped.
package wire
