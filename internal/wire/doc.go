// Package wire is mooring's data plane on the wire: it frames an MQTT 5 byte stream and
// encodes, decodes and validates the five packets that carry application messages (PUBLISH,
// PUBACK, PUBREC, PUBREL, PUBCOMP). Of all other packets it checks the fixed header only;
// the table of properties and the primitives cover them too.
//
// Decoding is a view: nothing is copied or allocated, and what [ParsePublish] returns is
// valid as long as the frame it was read from. Encoding appends to the caller's buffer. A
// violation by the peer is an [*Error] with the reason code for DISCONNECT; a message that
// must not be sent is a [*FieldError] with the name of the field.
//
// A canonical packet that is accepted is written again byte for byte. Canonical is the shortest
// form, as this package writes it: a PUBLISH with its properties in the order of
// [Publish.AppendProperties], without a Payload Format Indicator of 0 or an empty Content Type; an
// acknowledgement without a reason code 0 that ends it, and with no property but a Reason String
// that is not empty. Any other accepted packet means the same once it was written so, except for
// the User Properties of acknowledgements, which are checked and not kept.
package wire
