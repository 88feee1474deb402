package presence

import (
	"encoding/json"
	"errors"
	"fmt"
)

// MaxDetails is the maximum size of Details, in bytes of their JSON object.
const MaxDetails = 1024

// ErrDetails is the error of NewDetails if the details are too large. Test for it with errors.Is.
var ErrDetails = errors.New("presence: details too large")

// Details are texts with names that a device publishes in its status, for example its battery level
// or location. The zero value has no texts. Details are immutable, and can be compared with ==.
type Details struct {
	text string // a JSON object with sorted names; empty if there are no texts
}

// NewDetails returns the Details with these texts. Each invalid byte of UTF-8 is replaced by U+FFFD.
// If the JSON object of the details has more than MaxDetails bytes, the error matches ErrDetails.
func NewDetails(texts map[string]string) (Details, error) {
	if len(texts) == 0 {
		return Details{}, nil
	}
	text, _ := json.Marshal(texts) // encoding strings cannot fail
	if len(text) > MaxDetails {
		return Details{}, fmt.Errorf("%w: %d bytes of JSON, more than %d", ErrDetails, len(text), MaxDetails)
	}
	return Details{string(text)}, nil
}

// Map returns the texts by name. The caller may change the map. It is nil if there are no texts.
func (d Details) Map() (texts map[string]string) {
	if d.text != "" {
		_ = json.Unmarshal([]byte(d.text), &texts) // NewDetails has encoded it
	}
	return texts
}

// Get returns the text with a name, or "" if it does not exist. To read several texts, call Map.
func (d Details) Get(name string) string { return d.Map()[name] }

// Size returns the size of the JSON object in bytes, and 0 if there are no texts.
func (d Details) Size() int { return len(d.text) }

// String returns the JSON object, or "" if there are no texts.
func (d Details) String() string { return d.text }

// parseDetails returns the details of a status. Numbers and booleans become texts. Other values that
// are not texts are ignored. The details are empty if they are invalid or too large.
func parseDetails(object json.RawMessage) Details {
	var members map[string]json.RawMessage
	if len(object) == 0 || json.Unmarshal(object, &members) != nil {
		return Details{}
	}
	texts := make(map[string]string, len(members))
	for name, value := range members {
		var v any
		if json.Unmarshal(value, &v) != nil {
			continue
		}
		switch v := v.(type) {
		case string:
			texts[name] = v
		case bool, float64:
			texts[name] = string(value)
		}
	}
	d, _ := NewDetails(texts)
	return d
}
