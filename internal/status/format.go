package status

import (
	"bytes"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// Format encodes and decodes the status messages of one client.
type Format struct {
	Structured      bool // payloads are a presence.Status; otherwise they are Online and Offline
	Online, Offline []byte
	Boot            presence.BootID
	Version         string
	Heartbeat       time.Duration
	// Details returns the details of a status. It may call the application, so the caller of Payload
	// holds no lock. nil: there are none.
	Details func() presence.Details
}

// Payload returns a status message. The message of the will has no time, because the server
// publishes it later.
func (f *Format) Payload(state presence.State, reason string) []byte {
	switch {
	case f.Structured:
		p := presence.Status{State: state, Boot: f.Boot, Reason: reason, Version: f.Version}
		if reason != presence.ReasonWill {
			p.Time = time.Now()
			if f.Details != nil {
				p.Details = f.Details()
			}
		}
		if state == presence.Online {
			p.Interval = f.Heartbeat
		}
		return p.Append(nil)
	case state == presence.Online:
		return f.Online
	}
	return f.Offline
}

// parse decodes a message on the status topic. own means that this client may have published it. ok
// is false for a message that is empty or in an unknown format.
func (f *Format) parse(payload []byte) (s presence.Status, own, ok bool) {
	switch {
	case !f.Structured && bytes.Equal(payload, f.Online):
		s.State = presence.Online
	case !f.Structured && bytes.Equal(payload, f.Offline):
		s.State = presence.Offline
	default:
		var err error
		if s, err = presence.Parse(payload); err != nil {
			return s, false, false
		}
	}
	if f.Structured {
		return s, s.Boot == f.Boot, true
	}
	return s, s.Boot.IsZero(), true
}
