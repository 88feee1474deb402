package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// KeyFunc returns the dedupe key of a received message. Messages with the same key are duplicates
// of each other. The key must come from the publisher, and must be equal in all copies of a
// message. An empty key means that the message has none. The client then handles it without
// deduplication, and reports [NotDeduplicated] at QoS 1 and 2.
//
// If a KeyFunc returns an error, the client does not call the handler. It sets the message aside
// like a message whose handler returned a [PermanentError]. If the KeyFunc returns a *Refusal, the
// client refuses the message.
//
// The functions KeyByID, KeyByJSON, KeyByCloudEvent, KeyByOrigin and KeyByContent cover the usual
// messages. FirstKey and RequireKey combine them. A KeyFunc is called concurrently.
type KeyFunc func(*Message) (string, error)

// NoDedupe is the key of a message that needs no deduplication. The client handles each copy, and
// reports nothing.
const NoDedupe = "\x00none"

// ErrNoKey is the error of RequireKey for a message without a key.
var ErrNoKey = errors.New("client: message has no dedupe key; correct the publisher, or choose another KeyFunc")

// KeyByID is the default KeyFunc. The key is the text of the message ID.
func KeyByID(m *Message) (string, error) {
	if m.ID.IsZero() {
		return "", nil
	}
	return m.ID.String(), nil
}

// KeyByJSON returns a KeyFunc for payloads that are JSON objects with an identifier. path is the
// name of the field. Several names lead through nested objects. Without a path, the field is "id".
//
// The field must be a non-empty string or a number. The key of a number has the digits of the
// payload, so two large numbers are never equal by rounding. The string "17" and the number 17 have
// different keys. A payload without such a field, or which is not valid JSON, has no key.
func KeyByJSON(path ...string) KeyFunc {
	if len(path) == 0 {
		path = []string{"id"}
	}
	return func(m *Message) (string, error) {
		value := json.RawMessage(m.Payload)
		for _, name := range path {
			value = jsonField(value, name)
		}
		return jsonKey(value), nil
	}
}

// jsonField returns a field of an object, or nil. If the name occurs several times, the last one
// counts, as in JavaScript and Python.
func jsonField(object json.RawMessage, name string) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return nil
	}
	return fields[name]
}

// jsonKey returns the key of a string or number. Strings that differ only in their escapes have the
// same key.
func jsonKey(value json.RawMessage) string {
	value = bytes.TrimSpace(value)
	switch {
	case len(value) == 0:
		return ""
	case value[0] == '-' || '0' <= value[0] && value[0] <= '9':
		return string(value)
	}
	var text string
	if value[0] != '"' || json.Unmarshal(value, &text) != nil || text == "" {
		return ""
	}
	if !utf8.Valid(value) || strings.ContainsRune(text, utf8.RuneError) { // Unmarshal has replaced characters
		return string(value)
	}
	return strconv.Quote(text)
}

// KeyByCloudEvent is a KeyFunc for CloudEvents 1.0, in binary and in structured mode. The key
// consists of the attributes source and id, which identify an event.
func KeyByCloudEvent(m *Message) (string, error) {
	var source, id string
	if kind, _, _ := mime.ParseMediaType(m.ContentType); kind == "application/cloudevents+json" {
		var event struct {
			Source string `json:"source"`
			ID     string `json:"id"`
		}
		if json.Unmarshal(m.Payload, &event) != nil {
			return "", nil
		}
		source, id = event.Source, event.ID
	} else {
		for _, p := range m.UserProperties {
			switch p.Key {
			case "source":
				source = p.Value
			case "id":
				id = p.Value
			}
		}
	}
	if source == "" || id == "" {
		return "", nil
	}
	return "event " + strconv.Quote(source) + " " + strconv.Quote(id), nil
}

// KeyByOrigin is a KeyFunc for publishers that number their messages, see
// PublishingConfig.Sequenced. The key consists of the publisher, the topic, the epoch and the
// number.
func KeyByOrigin(m *Message) (string, error) {
	o := m.Origin
	if o.Seq == 0 {
		return "", nil
	}
	return "number " + strconv.Quote(o.Publisher) + " " + strconv.Quote(m.Topic) + " " +
		strconv.FormatUint(o.Epoch, 10) + " " + strconv.FormatUint(o.Seq, 10), nil
}

// KeyByContent is a KeyFunc for messages without an identifier. The key is a hash of the topic and
// the payload. Different messages must therefore have different payloads, for example with a
// timestamp. Otherwise the second one is not handled.
func KeyByContent(m *Message) (string, error) {
	return dedupe.Hash([]byte(m.Topic), m.Payload), nil
}

// FirstKey returns a KeyFunc that calls the functions one after the other until one returns a key
// or an error.
func FirstKey(functions ...KeyFunc) KeyFunc {
	return func(m *Message) (key string, err error) {
		for _, f := range functions {
			if key, err = f(m); key != "" || err != nil {
				break
			}
		}
		return key, err
	}
}

// RequireKey returns a KeyFunc that returns [ErrNoKey] for messages without a key. Such messages
// are set aside. Without Config.Dir they are refused.
func RequireKey(f KeyFunc) KeyFunc {
	return func(m *Message) (string, error) {
		key, err := f(m)
		if key == "" && err == nil {
			err = ErrNoKey
		}
		return key, err
	}
}

// NotDeduplicated reports a received QoS 1 or 2 message that is handled although the client cannot
// know whether it was handled before. Either the message has no dedupe key, or it is a retained
// message that the server sent for a new subscription. [DedupeRetained] changes the second case.
// The client does not report messages with the key [NoDedupe].
type NotDeduplicated struct {
	Message  *Message
	Retained bool // it is a retained message
}

func (NotDeduplicated) event() {}
