package reliability

// Action is what a client does after a reason code that refused or ended its connection.
type Action uint8

const (
	ActionRetry      Action = iota + 1 // connect again after the usual delay
	ActionRetryLater                   // connect again after a long delay: the server is short of resources
	ActionRedirect                     // connect to the server that the Server Reference names
	// ActionTakenOver: another client uses the Client Identifier. Connect again after a long delay,
	// or not at all: at once, the two would end each other's connections forever.
	ActionTakenOver
	ActionStop // another attempt with the same settings gets the same answer
)

var actionNames = [...]string{"", "retry", "retry later", "redirect", "taken over", "stop"}

// String returns the action's name in lower case.
func (a Action) String() string { return name(actionNames[:], a, "action") }

// onConnack and onDisconnect assign an action to each class of reason code. A
// CONNACK answers CONNECT, and the next CONNECT gets the same answer. A DISCONNECT
// reports an event, and the next CONNACK shows whether it still matters.
var (
	onConnack = [...]Action{
		Success: ActionRetry, Transient: ActionRetry, Session: ActionRetry,
		Busy: ActionRetryLater, Quota: ActionRetryLater,
		Redirect: ActionRedirect,
		Takeover: ActionTakenOver,
		Fatal:    ActionStop, NotAuthorized: ActionStop, Invalid: ActionStop, Protocol: ActionStop,
	}
	onDisconnect = [...]Action{
		Success: ActionRetry, Transient: ActionRetry, Session: ActionRetry, NotAuthorized: ActionRetry, Invalid: ActionRetry, Protocol: ActionRetry,
		Busy: ActionRetryLater, Quota: ActionRetryLater, Fatal: ActionRetryLater,
		Redirect: ActionRedirect,
		Takeover: ActionTakenOver,
	}
)

// OnConnack returns what to do after the reason code of a CONNACK.
func OnConnack(code byte) Action { return onConnack[Classify(code)] }

// OnDisconnect returns what to do after the reason code of the server's DISCONNECT.
func OnDisconnect(code byte) Action { return onDisconnect[Classify(code)] }
