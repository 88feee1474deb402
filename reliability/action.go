package reliability

import "strings"

// Action is what a client does after a reason code that refused or ended its connection.
type Action uint8

const (
	ActionRetry      Action = iota + 1 // connect again after the usual delay
	ActionRetryLater                   // connect again after a long delay: the server is short of resources
	ActionRedirect                     // connect to the server that the Server Reference names
	// ActionTakenOver: another client uses the same Client Identifier. Connect again after a long
	// delay, or not at all. If both clients reconnected at once, they would end each other's
	// connections forever.
	ActionTakenOver
	// ActionStop: another attempt with the same settings will probably be refused again.
	ActionStop
)

var actionNames = [...]string{"", "retry", "retry later", "redirect", "taken over", "stop"}

// String returns the name of the action in lower case.
func (a Action) String() string { return name(actionNames[:], a, "action") }

// onConnack and onDisconnect assign an action to each class of reason codes. A CONNACK answers a
// CONNECT. A DISCONNECT reports an event; the next CONNACK shows whether it still matters.
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

// StopCodes returns the reason codes of a CONNACK that reject the content of the CONNECT. They
// concern its form (0x81, 0x82, 0x95), the protocol version (0x84), the Client Identifier (0x85),
// the credentials (0x86, 0x87, 0x8C) or the Will (0x90, 0x99, 0x9A, 0x9B). A client that was never
// accepted with the same settings will probably be refused again. All other codes, including
// undefined ones, concern the server or may be temporary. This includes 0x8A (Banned), because
// servers lift bans by themselves.
func StopCodes() []byte { return []byte(stopCodes) }

// OnConnack returns what to do after the reason code of a CONNACK. accepted reports whether a
// server has accepted a connection with the same settings before. If so, every refusal may be
// temporary, because an authentication backend or an access rule may fail for some time.
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

// OnDisconnect returns what to do after the reason code of a DISCONNECT of the server. It never
// returns ActionStop.
func OnDisconnect(code byte) Action { return onDisconnect[Classify(code)] }
