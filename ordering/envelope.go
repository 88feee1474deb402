package ordering

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Envelope carries the sequence number, the time and the ID of a message inside the payload. It is
// for publishers and receivers that cannot use MQTT 5 user properties. It is encoded as a JSON
// object:
//
//		{"id":"0192…","sequence":7,"timestamp":1700000000000,"payload":{"celsius":21.5}}
//
//	  - sequence (required): integer, 0 to 2^64-1. JavaScript numbers are exact up to 2^53.
//	  - timestamp (optional): milliseconds since 1970 UTC, up to the year 9999.
//	  - id (optional): string of 1 to 65,535 bytes.
//	  - payload (required): any JSON value; with "encoding":"base64", a string with
//	    the bytes in standard base64.
//
// A payload that is valid JSON is embedded unchanged. Any other payload is encoded in base64.
// Examples are binary data, text without quotes, and JSON that is surrounded by white space or
// nested deeper than 512 levels. Both forms preserve every byte. Note that text without quotes is
// not JSON. If a publisher writes "payload":"on", the payload is four bytes long and includes the
// quotes.
type Envelope struct {
	ID        string // message ID; empty if the envelope has no ID
	Sequence  uint64
	Timestamp time.Time // time with a precision of 1 ms; zero if the envelope has no time
	Payload   []byte
}

// MaxEnvelopeBytes is the maximum size of an encoded envelope. MQTT packets have the same maximum
// size.
const MaxEnvelopeBytes = 268_435_455

const (
	maxIDBytes   = 65_535
	maxTimestamp = 253_402_300_799_999 // 9999-12-31T23:59:59.999Z
	maxNesting   = 512                 // the limit of many JSON decoders is not far above
)

// ErrEnvelope is wrapped by every error of EncodeEnvelope and DecodeEnvelope.
var ErrEnvelope = errors.New("ordering: invalid envelope")

func badEnvelope(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrEnvelope, fmt.Sprintf(format, args...))
}

// EncodeEnvelope returns e as JSON. It returns an error if the ID is too long or not UTF-8, if the
// time is not in the years 1970 to 9999, or if the result is too large. Every error matches
// [ErrEnvelope].
func EncodeEnvelope(e Envelope) ([]byte, error) {
	switch {
	case !utf8.ValidString(e.ID):
		return nil, badEnvelope("the ID is not UTF-8")
	case len(e.ID) > maxIDBytes:
		return nil, badEnvelope("the ID has %d bytes, the limit is %d", len(e.ID), maxIDBytes)
	case len(e.Payload) > MaxEnvelopeBytes:
		return nil, badEnvelope("the payload has %d bytes, the limit is %d", len(e.Payload), MaxEnvelopeBytes)
	}
	b := make([]byte, 0, 96+2*len(e.ID)+len(e.Payload))
	b = append(b, '{')
	if e.ID != "" {
		id, _ := json.Marshal(e.ID) // a string has no error
		b = append(append(append(b, `"id":`...), id...), ',')
	}
	b = strconv.AppendUint(append(b, `"sequence":`...), e.Sequence, 10)
	if !e.Timestamp.IsZero() {
		// Check the year first, because the milliseconds of distant years overflow.
		ms := e.Timestamp.UnixMilli()
		if y := e.Timestamp.UTC().Year(); y < 1970 || y > 9999 || ms < 0 {
			return nil, badEnvelope("the time %v is outside 1970 to 9999", e.Timestamp)
		}
		b = strconv.AppendInt(append(b, `,"timestamp":`...), ms, 10)
	}
	if embeddable(e.Payload) {
		b = append(append(b, `,"payload":`...), e.Payload...)
	} else {
		b = append(b, `,"encoding":"base64","payload":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, e.Payload), '"')
	}
	b = append(b, '}')
	if len(b) > MaxEnvelopeBytes {
		return nil, badEnvelope("the encoded envelope has %d bytes, the limit is %d", len(b), MaxEnvelopeBytes)
	}
	return b, nil
}

// embeddable reports whether the envelope can contain payload as JSON without a change of any byte.
func embeddable(payload []byte) bool {
	return len(payload) > 0 &&
		!isSpace(payload[0]) && !isSpace(payload[len(payload)-1]) &&
		utf8.Valid(payload) && json.Valid(payload) && nesting(payload) <= maxNesting
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// nesting returns the nesting depth of valid JSON.
func nesting(b []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// DecodeEnvelope parses an envelope. It rejects unknown and repeated fields, because they could
// change the meaning of the other fields. Every error matches [ErrEnvelope].
func DecodeEnvelope(data []byte) (Envelope, error) {
	switch {
	case len(data) > MaxEnvelopeBytes:
		return Envelope{}, badEnvelope("%d bytes, the limit is %d", len(data), MaxEnvelopeBytes)
	case !utf8.Valid(data):
		return Envelope{}, badEnvelope("not UTF-8")
	}
	fields, err := envelopeFields(data)
	if err != nil {
		return Envelope{}, err
	}
	var e Envelope
	if e.Sequence, err = wholeNumber(fields["sequence"], "sequence", 1<<64-1); err != nil {
		return Envelope{}, err
	}
	if raw, ok := fields["timestamp"]; ok {
		ms, err := wholeNumber(raw, "timestamp", maxTimestamp)
		if err != nil {
			return Envelope{}, err
		}
		e.Timestamp = time.UnixMilli(int64(ms)).UTC()
	}
	if raw, ok := fields["id"]; ok {
		if e.ID, ok = text(raw); !ok || e.ID == "" || len(e.ID) > maxIDBytes {
			return Envelope{}, badEnvelope("id must be text of 1 to %d bytes", maxIDBytes)
		}
	}
	if e.Payload, err = payloadOf(fields); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

var envelopeNames = []string{"id", "sequence", "timestamp", "payload", "encoding"}

// envelopeFields splits the JSON object into its fields. Unlike encoding/json, it distinguishes
// upper and lower case, and rejects repeated fields.
func envelopeFields(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, badEnvelope("not a JSON object")
	}
	fields := make(map[string]json.RawMessage, 5)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, badEnvelope("%v", err)
		}
		name, _ := t.(string)
		_, twice := fields[name]
		switch {
		case !slices.Contains(envelopeNames, name):
			return nil, badEnvelope("unknown field %.40q", name)
		case twice:
			return nil, badEnvelope("field %s is repeated", name)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, badEnvelope("%s: %v", name, err)
		}
		fields[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, badEnvelope("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, badEnvelope("data after the object")
	}
	return fields, nil
}

// wholeNumber parses decimal digits. JSON has no leading zeros. 7.0 and 7e0 are rejected, because
// an encoder that writes them may round numbers.
func wholeNumber(raw json.RawMessage, name string, limit uint64) (uint64, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n > limit {
		return 0, badEnvelope("%s must be an integer from 0 to %d", name, limit)
	}
	return n, nil
}

func text(raw json.RawMessage) (string, bool) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", false
	}
	return *s, true
}

func payloadOf(fields map[string]json.RawMessage) ([]byte, error) {
	raw, ok := fields["payload"]
	if !ok {
		return nil, badEnvelope("payload is missing")
	}
	encoding, ok := fields["encoding"]
	if !ok {
		return raw, nil
	}
	if name, _ := text(encoding); name != "base64" {
		return nil, badEnvelope(`encoding must be "base64" or absent`)
	}
	s, ok := text(raw)
	if !ok {
		return nil, badEnvelope("payload must be text when encoding is base64")
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, badEnvelope("payload is not base64: %v", err)
	}
	return payload, nil
}
