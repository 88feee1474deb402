package client

import (
	"fmt"
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/status"
)

// PresenceConfig configures how the client reports its presence, and how it reads retained
// messages.
type PresenceConfig struct {
	Will   *Will   // published by the server when the connection ends without a DISCONNECT; default: none
	Status *Status // publishes retained online and offline messages; replaces Will; default: none
	// MarkerTopic is a topic that only this client uses. WatchStatus, FetchRetained and
	// MirrorRetained subscribe to this topic and publish a message (the marker) to it. When the
	// client receives the marker, it has received all retained messages. Default "mooring/marker/"
	// and the ClientID; NoMarker disables it, see SyncEnd.
	MarkerTopic string
}

// Status publishes retained messages that show whether the client is online. The client publishes
// "online" after each CONNACK, and "offline" before it ends cleanly. If the client does not end
// cleanly, the server publishes "offline" as the will. The client sends status messages at QoS 1
// and ahead of stored messages, and does not store them. If the server refuses a status message,
// the client reports that and retries with backoff (1 s to 1 minute), see StatusFailed and
// StatusDeferredError.
//
// While connected, the client subscribes to Topic at QoS 1 to receive its own status messages.
// Handlers do not see them. If another "offline" arrives on Topic, for example as the delayed will
// of an earlier connection, the client publishes "online" again. If the application has a
// subscription that covers Topic, the client makes no subscription of its own. The application's
// handlers then receive all status messages.
type Status struct {
	Topic   string // topic of the status messages, without wildcards; required
	Online  []byte // payload while the client is online; default "online"; must be nil with Structured
	Offline []byte // payload after the client's end; default "offline"; must be nil with Structured

	// Structured publishes JSON objects (presence.Status) with the state, the boot ID
	// (Client.BootID), the time (not in the will), the reason, Version and Heartbeat.
	Structured bool
	Version    string // version of the device's software, in UTF-8, up to 128 bytes; default: none; requires Structured

	// Details returns texts about the device, for example its battery level. The client calls
	// Details for each status message except the will, so set Heartbeat to publish changed details.
	// The JSON of the texts has up to 1,024 bytes. If it has more, or if Details panics, the client
	// publishes the status without details and reports StatusFailed or CallbackPanicked. Details
	// must not block, must not call Close or Drain, and requires Structured. Default: none.
	Details func() map[string]string

	// Heartbeat is the time without a status message after which the client publishes "online"
	// again. The range of Heartbeat is 1 s to 30 days. The client skips a heartbeat while a status
	// message is unacknowledged. With Structured, each status message contains the interval, and
	// watchers mark a device as stale after three intervals of silence. Default 0: no heartbeats.
	Heartbeat time.Duration

	// Delay is how long the server waits after the end of a connection before it publishes
	// "offline", rounded up to seconds. If the session ends earlier, the server publishes "offline"
	// at once. Default 0.
	Delay time.Duration
	// AtSessionEnd makes the server publish "offline" when it ends the session, after
	// SessionConfig.Expiry. After that, the server keeps no messages for this client. AtSessionEnd
	// replaces Delay.
	AtSessionEnd bool
	// LeaveToWill lets the server publish "offline" even after a clean end. The client sends
	// DISCONNECT with reason code 0x04. The server publishes "offline" after Delay, unless the
	// client connects earlier. A restart within Delay is therefore not visible. With a generated
	// ClientID, the session ends at once, and the server does not wait for Delay.
	LeaveToWill bool
	// NoCorrection disables the client's subscription to Topic. An "offline" of another client then
	// stays on Topic until the next CONNACK, and StatusContested is not reported.
	NoCorrection bool

	format status.Format // set by withDefaults
}

// endOfSession is a Will Delay Interval that is longer than any session with an expiry.
const endOfSession = math.MaxUint32 * time.Second

// withDefaults returns a copy with the payloads and a new boot ID.
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

// corrects reports whether the client subscribes to Topic. It cannot do so if Topic looks like the
// filter of a Shared Subscription.
func (s *Status) corrects() bool { return s != nil && !s.NoCorrection && !isShared(s.Topic) }

// StatusStats counts the messages published and received on the status topic.
type StatusStats struct {
	Births      uint64 // online messages published after a CONNACK
	Heartbeats  uint64
	Skipped     uint64 // heartbeats skipped because an earlier status message was unacknowledged
	Corrections uint64 // online messages published because another client published offline
	Failed      uint64 // status messages that were refused or deferred, or that could not be sent
	Contested   uint64 // online messages of other processes, received while this client is online
}

// StatusContested reports that another process, with another boot ID, publishes "online" on this
// client's status topic. The event is reported at most once a minute. StatusStats.Contested counts
// every online message of another process. The client detects other processes only with
// Status.Structured.
type StatusContested struct {
	Boot presence.BootID // boot ID of the other process; zero if the message had none
}

func (StatusContested) event() {}
func (e StatusContested) String() string {
	return fmt.Sprintf("another process with boot ID %q uses this client's status topic; give each its own", e.Boot)
}

// StatusDeferredError reports that several connections in a row ended while a status message was
// unacknowledged. The server may forbid Status.Topic and enforce this by ending the connection.
//
// After PoisonAttempts such connections, the client defers the status message and sends stored
// messages first. The client then publishes "online" alone, after another message was acknowledged
// or when no message waits. The backoff between attempts is up to 5 minutes. The error is reported
// once for each connection on which the status message is deferred.
type StatusDeferredError struct {
	Connections int // connections in a row that ended while a status message was unacknowledged
}

func (e *StatusDeferredError) Error() string {
	return fmt.Sprintf("client: status message deferred: the last %d connections with one ended before its acknowledgement; allow the client to publish to Status.Topic", e.Connections)
}

// SafeToRetry returns true, because the message was not sent.
func (*StatusDeferredError) SafeToRetry() bool { return true }

// StatusSubscriptionError reports that the server refused the subscription to the client's status
// topic. The error is reported once. The client tries to subscribe again on each connection.
type StatusSubscriptionError struct{ Err error }

func (e *StatusSubscriptionError) Error() string {
	return "client: cannot subscribe to Status.Topic, so a stale offline remains until the next connection; allow the subscription, or set Status.NoCorrection: " + e.Err.Error()
}

func (e *StatusSubscriptionError) Unwrap() error { return e.Err }
