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

// Status is a status message. A device publishes it itself, or the server publishes it as the will
// of the device. The payload is a JSON object:
//
//	{"state":"online","boot":"0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a","time":"2026-11-22T14:33:21.5Z","reason":"birth","version":"1.4.2","interval":30,"details":{"battery":"81 %"}}
//
// Only the member state is required. Any other missing or invalid member becomes the zero value.
// Unknown members are ignored. If a member is repeated, the last one counts.
type Status struct {
	State State  // Online or Offline
	Boot  BootID // identifies this run of the device's client
	// Time is the time at which the device created the status, according to its own clock. It is in
	// UTC and in the years 0 to 9999. It is zero in a will, because the device creates the will
	// long before the server publishes it.
	Time    time.Time
	Reason  string // one of the Reason constants or another text; truncated to MaxText bytes
	Version string // version of the device's software; truncated to MaxText bytes
	// Interval is the time between two statuses of the device. It is rounded up to seconds and is
	// at most MaxInterval. 0 means that the device does not repeat its status.
	Interval time.Duration
	Details  Details // further texts about the device; a will of package client has none
}

// Values of Status.Reason. A device may also use other texts.
const (
	ReasonBirth      = "birth"      // the client has connected: the server has sent CONNACK
	ReasonHeartbeat  = "heartbeat"  // an Interval has passed since the last status
	ReasonCorrection = "correction" // the client corrects a status that another client or a will published
	ReasonClose      = "close"      // the application is closing the client
	ReasonWill       = "will"       // the server publishes the will
)

const (
	MaxPayload  = 4096                // largest payload that Parse accepts, in bytes
	MaxText     = 128                 // maximum length of Reason and Version, in bytes
	MaxInterval = 30 * 24 * time.Hour // maximum Interval
)

// ErrPayload is the error of Parse for an invalid payload. Test for it with errors.Is.
var ErrPayload = errors.New("presence: invalid status payload")

// Parse decodes a payload. It accepts a JSON object as described at Status. It also accepts the
// text online or offline, in lower case and without quotes. It ignores white space around the
// payload. For any other payload, the error matches ErrPayload. An empty payload, which clears a
// retained status, is also invalid. The returned Status does not keep a reference to payload.
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
	var members map[string]json.RawMessage // not a struct, because encoding/json ignores the case of field names
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
	s.Details = parseDetails(members["details"])
	return s, nil
}

// Append appends s to dst as a JSON object. If the fields of s are within their limits, Parse
// returns the same Status. A State other than Online is encoded as offline.
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
	if s.Details.text != "" {
		dst = append(append(dst, `,"details":`...), s.Details.text...)
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

// member returns the value of a name, or zero if it does not exist or has another type.
func member[T any](members map[string]json.RawMessage, name string) (v T) {
	if json.Unmarshal(members[name], &v) != nil {
		return *new(T)
	}
	return v
}

// inRange reports whether t is set and can be encoded in RFC 3339.
func inRange(t time.Time) bool { return !t.IsZero() && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 }

// cut truncates a text to MaxText bytes at a character boundary.
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
	quoted, _ := json.Marshal(cut(text)) // encoding a string cannot fail
	return append(dst, quoted...)
}
