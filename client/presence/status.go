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

// Status is what a device publishes about itself, directly or as its will. As a
// payload it is one JSON object:
//
//	{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30}
//
// Only state is required. A member that is absent or invalid leaves the zero value;
// other members are ignored; of a repeated member the last one counts.
type Status struct {
	State State  // Online or Offline
	Boot  BootID // tells one life of the device from the next
	// Time is when the device wrote the status, by its own clock, in UTC, in the years
	// 0 to 9999. Zero: none, as in a will, which is written long before it is sent.
	Time    time.Time
	Reason  string // one of the Reason constants, or another text; cut to MaxText bytes
	Version string // of the device's software; cut to MaxText bytes
	// Interval is the time between two statuses: in whole seconds, rounded up, at most
	// MaxInterval. 0: the device does not repeat its status.
	Interval time.Duration
}

// Why a status is published. The set is open.
const (
	ReasonBirth      = "birth"      // a connection was accepted
	ReasonHeartbeat  = "heartbeat"  // an interval has passed
	ReasonCorrection = "correction" // another status was on the topic
	ReasonClose      = "close"      // a clean end
	ReasonWill       = "will"       // the server publishes it
)

const (
	MaxPayload  = 4096                // the largest payload that Parse reads, in bytes
	MaxText     = 128                 // the limit of Reason and Version, in bytes
	MaxInterval = 30 * 24 * time.Hour // the limit of Interval
)

// ErrPayload is matched by every error of Parse.
var ErrPayload = errors.New("presence: no status payload")

// Parse reads a payload: a JSON object as above with the state "online" or
// "offline", or plain online or offline, in lower case and without quotes. White
// space around it is ignored. Any other payload is an ErrPayload, and so is the empty
// one, which clears a retained status. The Status does not refer to payload.
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

// Append appends s to dst as a JSON object. Parse returns the same Status if its
// fields are within their limits. A State other than Online is written as offline.
func (s Status) Append(dst []byte) []byte {
	state := `{"state":"offline"`
	if s.State == Online {
		state = `{"state":"online"`
	}
	dst = append(dst, state...)
	if !s.Boot.IsZero() {
		dst = fmt.Appendf(dst, `,"boot":"%s"`, s.Boot)
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

// member returns the value of a name; zero if there is none of type T.
func member[T any](members map[string]json.RawMessage, name string) (v T) {
	if json.Unmarshal(members[name], &v) != nil {
		return *new(T)
	}
	return v
}

// inRange reports whether t is set and has a form in RFC 3339.
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
