package client

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Status is the presence convention: online is published, retained and at
// QoS 1, after each CONNACK; offline is the retained will, and is published
// before a clean end. It goes past the store, ahead of any backlog.
//
// While connected the client listens to Topic, by a subscription of its own at
// QoS 1 that handlers do not see, and says online again where someone else said
// offline: the will of an earlier process or connection that came late. So what
// it says itself comes back to it, a message for a message; NoCorrection saves
// that. A subscription of the program's that covers Topic serves as well, and
// gets its messages as ever.
type Status struct {
	Topic   string
	Online  []byte // default "online"; not with Structured
	Offline []byte // default "offline"; not with Structured

	// Structured makes the payloads JSON objects (presence.Status): state, the
	// boot ID (Client.BootID), the time by this machine's clock, a reason, Version,
	// and the interval of Heartbeat. The will has no time, see presence.Status.
	Structured bool
	// Version is that of the device's software, in UTF-8, at most 128 bytes. Needs
	// Structured.
	Version string

	// Heartbeat is how long after the last word online is published again, while
	// there is a connection: 1 s to 30 days. One is left out while an earlier word
	// is not acknowledged, and counted. Default 0: none. Watchers that know it, by
	// Structured, take a device for stale that says nothing for three of them.
	Heartbeat time.Duration

	// Delay is how long a link may be gone before the server says offline. Default
	// 0: at once. In whole seconds, rounded up. A session that ends before is
	// offline when it ends.
	Delay time.Duration
	// AtSessionEnd has the server say offline when it ends the session, after
	// Config.Session.Expiry, and not before: from then on nothing waits for this
	// client at the server. It takes the place of Delay.
	AtSessionEnd bool
	// LeaveToWill says no offline before a clean end: DISCONNECT has the reason
	// code 0x04, and the server says offline after Delay, unless we are back by
	// then. So a restart within Delay is not seen. A made-up ClientID ends its
	// session at once, and with it the Delay.
	LeaveToWill bool
	// NoCorrection does not listen to Topic, so nothing wrong on it is corrected
	// until the next CONNACK, and StatusContested is not told.
	NoCorrection bool
}

// forEver is the Will Delay Interval that no session expiry but the endless one
// reaches.
const forEver = math.MaxUint32 * time.Second

// withDefaults is a copy with payloads.
func (s Status) withDefaults() *Status {
	if s.Online == nil {
		s.Online = []byte("online")
	}
	if s.Offline == nil {
		s.Offline = []byte("offline")
	}
	return &s
}

// will is the Will Message of the convention.
func (s *Status) will(expiry time.Duration) *Will {
	w := &Will{Topic: s.Topic, Payload: s.Offline, QoS: AtLeastOnce, Retain: true, Delay: s.Delay}
	if s.AtSessionEnd && expiry != NoSession {
		w.Delay = forEver // the end of the session comes first [3.1.3.2.2]
	}
	return w
}

func (s *Status) validate(bad func(field, format string, args ...any) error) error {
	if err := wire.CheckTopicName("Presence.Status.Topic", s.Topic); err != nil {
		return bad("Presence.Status.Topic", "%s", err.(*wire.FieldError).Problem)
	}
	switch {
	case s.Delay < 0:
		return bad("Presence.Status.Delay", "is %v; use 0 or a positive duration", s.Delay)
	case s.Delay > 0 && s.AtSessionEnd:
		return bad("Presence.Status.Delay", "is set together with AtSessionEnd, which waits for the end of the session; set one of both")
	case len(s.Online) > wire.MaxString || len(s.Offline) > wire.MaxString:
		return bad("Presence.Status.Offline", "or Online is longer than 65,535 bytes; MQTT cannot carry it in a will")
	case s.Structured && (s.Online != nil || s.Offline != nil):
		return bad("Presence.Status.Structured", "is set together with Online or Offline; it makes the payloads, set one of both")
	case s.Version != "" && !s.Structured:
		return bad("Presence.Status.Version", "is set without Structured, so nobody would learn it; set both")
	case len(s.Version) > presence.MaxText || !utf8.ValidString(s.Version):
		return bad("Presence.Status.Version", "is longer than %d bytes, or not UTF-8; shorten it", presence.MaxText)
	case s.Heartbeat != 0 && (s.Heartbeat < time.Second || s.Heartbeat > presence.MaxInterval):
		return bad("Presence.Status.Heartbeat", "is %v; use 0 for none, or 1 s to %v", s.Heartbeat, presence.MaxInterval)
	}
	return nil
}

// payload is a structured word.
func (s *Status) payload(boot presence.BootID, state presence.State, reason string) []byte {
	p := presence.Status{State: state, Boot: boot, Reason: reason, Version: s.Version}
	if reason != presence.ReasonWill {
		p.Time = time.Now()
	}
	if state == presence.Online {
		p.Interval = s.Heartbeat
	}
	return p.Append(nil)
}

// StatusContested: someone else says online on our status topic while we are
// there, with another boot ID: another process uses the same Status.Topic.
// It is not answered, so that the two do not talk for ever. Told once a minute
// at most; Stats counts each. Needs Status.Structured.
type StatusContested struct {
	Boot presence.BootID // zero: it gave none
}

func (StatusContested) event() {}

// String names the other.
func (e StatusContested) String() string {
	return fmt.Sprintf("another process with boot ID %q uses our status topic; give each its own", e.Boot)
}
