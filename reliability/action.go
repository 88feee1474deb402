package reliability

import "strings"

// Action is what a client should do after the server refused or ended its connection with a reason
// code.
type Action uint8

const (
	// ActionRetry means that the client connects again after the usual delay.
	ActionRetry Action = iota + 1
	// ActionRetryLater means that the client connects to this server again after a long delay,
	// because the server lacks resources. The client may try other servers meanwhile.
	ActionRetryLater
	// ActionRedirect means that the client connects to the server that the Server Reference
	// property names.
	ActionRedirect
	// ActionTakenOver means that another client uses the same Client Identifier. The client
	// connects again after a long delay, or not at all. If both clients reconnected at once, they
	// would end each other's connections forever.
	ActionTakenOver
	// ActionStop means that the client stops, because the server will probably refuse another
	// attempt with the same settings.
	ActionStop
)

var actionNames = [...]string{"", "retry", "retry later", "redirect", "taken over", "stop"}

// String returns the name of the action in lower case.
func (a Action) String() string { return name(actionNames[:], a, "action") }

// onConnack and onDisconnect assign an action to each class of reason codes. A CONNACK answers a
// CONNECT. A DISCONNECT reports an event. The next CONNACK shows whether the event still matters.
var (
	onConnack = [...]Action{
		Success: ActionRetry, Transient: ActionRetry, Session: ActionRetry,
		Busy: ActionRetryLater, Quota: ActionRetryLater,
		Redirect: ActionRedirect,
		Takeover: ActionTakenOver,
		Fatal:    ActionRetry, NotAuthorized: ActionRetry, Invalid: ActionRetry, Protocol: ActionRetry,
	}
	onDisconnect = [...]Action{
		Success: ActionRetry, Transient: ActionRetry, Session: ActionRetry, NotAuthorized: ActionRetry, Invalid: ActionRetry, Protocol: ActionRetry,
		Busy: ActionRetryLater, Quota: ActionRetryLater, Fatal: ActionRetryLater,
		Redirect: ActionRedirect,
		Takeover: ActionTakenOver,
	}
)

// stopCodes are the reason codes of a CONNACK that reject the CONNECT itself.
const stopCodes = "\x81\x82\x84\x85\x86\x87\x8C\x90\x95\x99\x9A\x9B"

// StopCodes returns the CONNACK reason codes with which a server rejects the content of the
// CONNECT:
//
//   - 0x81, 0x82 and 0x95 reject the form of the packet.
//   - 0x84 rejects the protocol version.
//   - 0x85 rejects the Client Identifier.
//   - 0x86, 0x87 and 0x8C reject the credentials.
//   - 0x90, 0x99, 0x9A and 0x9B reject the will.
//
// If no server has ever accepted these settings, the server will probably refuse them again. All
// other codes, including undefined ones, concern the server or may be temporary. 0x8A (Banned) is
// one of these other codes, because servers lift bans by themselves.
func StopCodes() []byte { return []byte(stopCodes) }

// OnConnack returns the action after a CONNACK with this reason code. Set accepted to true if a
// server has accepted a connection with the same settings before. In this case, every refusal may
// be temporary. For example, an authentication backend may fail for some time.
func OnConnack(code byte, accepted bool) Action {
	switch {
	case code == banned:
		return ActionRetryLater
	case !accepted && strings.IndexByte(stopCodes, code) >= 0:
		return ActionStop
	}
	return onConnack[Classify(code)]
}

const banned = 0x8A

// OnDisconnect returns the action after the server has sent a DISCONNECT with this reason code. It
// never returns ActionStop.
func OnDisconnect(code byte) Action { return onDisconnect[Classify(code)] }
