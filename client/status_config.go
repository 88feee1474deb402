package client

import (
	"fmt"
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/status"
)

// Status publishes whether the client is online, retained and at QoS 1: online after
// each CONNACK; offline as the will, and before a clean end. Status messages are not
// stored, and are sent ahead of stored messages. One that the server refuses is tried again with
// backoff (1 s to 1 minute) and reported, see StatusFailed and StatusDeferredError.
//
// While connected, the client subscribes to Topic at QoS 1, invisibly to handlers, and receives its
// own status messages. It publishes online again after another client published offline there, such
// as the late will of an earlier connection. A subscription of the application that covers Topic
// takes the place of this one, and its handlers receive all messages.
type Status struct {
	Topic   string
	Online  []byte // default "online"; not with Structured
	Offline []byte // default "offline"; not with Structured

	// Structured makes the payloads JSON objects (presence.Status): state, boot ID
	// (Client.BootID), time (not in the will), reason, Version, and Heartbeat.
	Structured bool
	Version    string // of the device's software, in UTF-8, at most 128 bytes; requires Structured

	// Heartbeat publishes online again after this time without another status message,
	// while connected: 1 s to 30 days. It is skipped while an earlier message is
	// unacknowledged. Watchers that know the interval, by Structured, mark a device as
	// stale after three intervals of silence. Default 0: none.
	Heartbeat time.Duration

	// Delay is how long the server waits after the end of a connection, or until the end
	// of the session, before it publishes offline: in whole seconds, rounded up; default 0.
	Delay time.Duration
	// AtSessionEnd makes the server publish offline when it ends the session, after
	// SessionConfig.Expiry: from then on no message waits for this client at the server.
	// It replaces Delay.
	AtSessionEnd bool
	// LeaveToWill publishes no offline before a clean end. DISCONNECT has the reason
	// code 0x04, and the server publishes offline after Delay unless the client connects
	// earlier, so that a restart within Delay is not visible. A generated ClientID ends
	// its session at once, and with it the Delay.
	LeaveToWill bool
	// NoCorrection does not subscribe to Topic: another client's offline remains until
	// the next CONNACK, and StatusContested is not reported.
	NoCorrection bool

	format status.Format // set by withDefaults
}

// endOfSession is a Will Delay Interval that only an endless session reaches.
const endOfSession = math.MaxUint32 * time.Second

// withDefaults returns a copy with payloads and a new boot ID.
func (s Status) withDefaults() *Status {
	s.format = status.Format{Structured: s.Structured, Online: s.Online, Offline: s.Offline,
		Boot: presence.BootID(NewMessageID()), Version: s.Version, Heartbeat: s.Heartbeat}
	if s.Online == nil {
		s.format.Online = []byte("online")
	}
	if s.Offline == nil {
		s.format.Offline = []byte("offline")
	}
	return &s
}

// will returns the Will Message.
func (s *Status) will(expiry time.Duration) *Will {
	w := &Will{Topic: s.Topic, Payload: s.format.Payload(presence.Offline, presence.ReasonWill), QoS: AtLeastOnce, Retain: true, Delay: s.Delay}
	if s.AtSessionEnd && expiry != NoSession {
		w.Delay = endOfSession // the session ends earlier [3.1.3.2.2]
	}
	return w
}

// corrects reports whether the client subscribes to Topic. A name that is a Shared
// Subscription as a filter cannot be subscribed to.
func (s *Status) corrects() bool { return s != nil && !s.NoCorrection && !isShared(s.Topic) }

// StatusStats counts what was published and received on the status topic.
type StatusStats struct {
	Births      uint64 // messages published because of a CONNACK
	Heartbeats  uint64
	Skipped     uint64 // heartbeats skipped because the link had no room
	Corrections uint64 // messages published because another client published offline
	Failed      uint64 // messages that could not be sent, were deferred, or that the server refused
	Contested   uint64 // online messages of others, received while this client is online
}

// StatusContested reports that another process, with another boot ID, publishes online
// on this client's status topic. It is reported once a minute at most; Stats counts
// each message. It requires Status.Structured.
type StatusContested struct {
	Boot presence.BootID // zero: the message had none
}

func (StatusContested) event() {}
func (e StatusContested) String() string {
	return fmt.Sprintf("another process with boot ID %q uses this client's status topic; give each its own", e.Boot)
}

// StatusDeferredError reports that connections have ended, one after the other, while a status
// message was unacknowledged: the server may forbid Status.Topic and end the connection instead of
// refusing the message. After PoisonAttempts such connections the status is deferred: messages of the
// store are sent first, and online is published alone, after another message was acknowledged or when
// none waits, with backoff up to 5 minutes. It is reported once for each connection that begins so.
type StatusDeferredError struct {
	Connections int // in a row that ended while a status message was unacknowledged
}

func (e *StatusDeferredError) Error() string {
	return fmt.Sprintf("client: the status is deferred, and tried again later: the last %d connections with a status message ended before its acknowledgement; allow the client to publish to Status.Topic", e.Connections)
}

// SafeToRetry returns true: the message was not sent.
func (*StatusDeferredError) SafeToRetry() bool { return true }

// StatusSubscriptionError reports that the server refuses the subscription to the
// client's own status topic. It is reported once; each connection tries again.
type StatusSubscriptionError struct{ Err error }

func (e *StatusSubscriptionError) Error() string {
	return "client: cannot subscribe to the own status topic, so a stale offline is corrected at the next connection only; allow subscribing to Status.Topic, or set Status.NoCorrection: " + e.Err.Error()
}

func (e *StatusSubscriptionError) Unwrap() error { return e.Err }
