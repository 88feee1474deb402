package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Status is what a device says of itself, or the server as its will. As a
// payload it is one JSON object:
//
//	{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}
//
// Only state is required. A member that is absent, or has a value that cannot
// be what the field is, leaves the zero value; members of other names are
// ignored; of a name that comes twice the last one counts.
type Status struct {
	// State is Online or Offline.
	State State
	// Boot tells one life of the device from the next.
	Boot BootID
	// Time is when the device said so, by its own clock; in the years 0 to 9999,
	// UTC. The zero Time: it does not say. A will is written long before it is
	// sent, so it has none.
	Time time.Time
	// Reason is one of the Reason constants, or any other short text. At most
	// MaxText bytes; what is longer is cut.
	Reason string
	// Version is that of the device's software. At most MaxText bytes; what is
	// longer is cut.
	Version string
	// Interval is how often the device says it again: in whole seconds, rounded
	// up, at most MaxInterval. 0: it does not.
	Interval time.Duration
}

// Why a status is published. The set is open.
const (
	ReasonBirth      = "birth"      // a connection was accepted
	ReasonHeartbeat  = "heartbeat"  // it is said again every so often
	ReasonCorrection = "correction" // someone else said otherwise
	ReasonClose      = "close"      // a clean end
	ReasonWill       = "will"       // the server says it
)

const (
	// MaxPayload is the largest payload that Parse reads, in bytes.
	MaxPayload = 4096
	// MaxText bounds Reason and Version, in bytes.
	MaxText = 128
	// MaxInterval bounds Interval.
	MaxInterval = 30 * 24 * time.Hour
)

// ErrPayload is matched by every error of Parse.
var ErrPayload = errors.New("presence: no status payload")

// Parse reads a payload: a JSON object as above with the state "online" or
// "offline", or plainly online or offline, in this case and without quotes.
// White space around it is ignored. All else is an ErrPayload, the empty payload
// too: that says that a retained status was cleared. The Status does not refer
// to payload.
func Parse(payload []byte) (Status, error) {
	if len(payload) > MaxPayload {
		return Status{}, fmt.Errorf("%w: it has %d bytes, more than %d", ErrPayload, len(payload), MaxPayload)
	}
	text := bytes.TrimSpace(payload)
	if len(text) == 0 {
		return Status{}, fmt.Errorf("%w: it is empty", ErrPayload)
	}
	if state := said(string(text)); state != Unknown {
		return Status{State: state}, nil
	}
	if text[0] != '{' {
		return Status{}, fmt.Errorf("%w: neither online nor offline nor a JSON object", ErrPayload)
	}
	var members map[string]json.RawMessage // a struct would match names in any case
	if err := json.Unmarshal(text, &members); err != nil {
		return Status{}, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	state := member[string](members, "state")
	s := Status{State: said(state)}
	if s.State == Unknown {
		return Status{}, fmt.Errorf("%w: its state is %.20q; it must be online or offline", ErrPayload, state)
	}
	s.Boot, _ = ParseBootID(member[string](members, "boot"))
	if t, err := time.Parse(time.RFC3339Nano, member[string](members, "time")); err == nil && inRange(t) {
		s.Time = t.UTC()
	}
	s.Reason = cut(member[string](members, "reason"))
	s.Version = cut(member[string](members, "version"))
	if sec := member[float64](members, "interval"); sec > 0 {
		s.Interval = time.Duration(math.Ceil(min(sec, MaxInterval.Seconds()))) * time.Second
	}
	return s, nil
}

// Append writes s as a JSON object behind dst. Parse reads the same Status
// again, if its fields are within their limits. A State other than Online is
// written as offline: a payload says online only where that is meant.
func (s Status) Append(dst []byte) []byte {
	state := Offline
	if s.State == Online {
		state = Online
	}
	dst = append(dst, `{"state":"`...)
	dst = append(dst, state.String()...)
	dst = append(dst, '"')
	if !s.Boot.IsZero() {
		dst = append(dst, `,"boot":"`...)
		dst = append(s.Boot.append(dst), '"')
	}
	if t := s.Time.UTC(); inRange(t) {
		dst = append(dst, `,"time":"`...)
		dst = append(t.AppendFormat(dst, time.RFC3339Nano), '"')
	}
	if s.Reason != "" {
		dst = appendText(append(dst, `,"reason":`...), s.Reason)
	}
	if s.Version != "" {
		dst = appendText(append(dst, `,"version":`...), s.Version)
	}
	if s.Interval > 0 {
		sec := int64(min(s.Interval, MaxInterval)+time.Second-1) / int64(time.Second)
		dst = strconv.AppendInt(append(dst, `,"interval":`...), sec, 10)
	}
	return append(dst, '}')
}

func said(text string) State {
	switch text {
	case "online":
		return Online
	case "offline":
		return Offline
	}
	return Unknown
}

// member is the value of a name; zero if there is none of type T.
func member[T any](members map[string]json.RawMessage, name string) T {
	var v T
	if raw, ok := members[name]; !ok || json.Unmarshal(raw, &v) != nil {
		var zero T
		return zero
	}
	return v
}

// inRange reports whether RFC 3339 can say t, and t says something.
func inRange(t time.Time) bool { return !t.IsZero() && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 }

// cut shortens a text to MaxText bytes, not within a character.
func cut(text string) string {
	if len(text) <= MaxText {
		return text
	}
	n := MaxText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func appendText(dst []byte, text string) []byte {
	quoted, _ := json.Marshal(cut(text)) // a string has no error
	return append(dst, quoted...)
}
