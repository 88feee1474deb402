package reliability

import "fmt"

// Action is what a client does about a reason code that ended its connection,
// or kept it from getting one.
type Action uint8

const (
	// Retrying: connect again after the usual delay.
	Retrying Action = iota + 1
	// RetryLater: connect again after a long delay; the server is short of room,
	// and one more client that knocks often makes it worse.
	RetryLater
	// Follow: connect to the server that the Server Reference names.
	Follow
	// GiveWay: somebody else has our client identifier. Connecting again at once
	// takes it back, and the two do so for ever.
	GiveWay
	// Stop: connecting again as we are gets the same answer.
	Stop
)

var actionNames = [...]string{Retrying: "retry", RetryLater: "retry later", Follow: "follow", GiveWay: "give way", Stop: "stop"}

// String returns the action's name in lower case.
func (a Action) String() string {
	if a == 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("action(%d)", uint8(a))
	}
	return actionNames[a]
}

// onConnack and onDisconnect are the table of MQTT 5's reason codes by what
// they mean for the connection. A CONNACK answers what CONNECT said, which will
// be the same next time; a DISCONNECT tells of something that happened, and the
// next CONNACK says whether it still holds.
var (
	onConnack = [...]Action{
		Success: Retrying, Transient: Retrying, Session: Retrying,
		Busy: RetryLater, Quota: RetryLater,
		Redirect: Follow,
		Takeover: GiveWay,
		Fatal:    Stop, NotAuthorized: Stop, Invalid: Stop, Protocol: Stop,
	}
	onDisconnect = [...]Action{
		Success: Retrying, Transient: Retrying, Session: Retrying, NotAuthorized: Retrying, Invalid: Retrying, Protocol: Retrying,
		Busy: RetryLater, Quota: RetryLater, Fatal: RetryLater,
		Redirect: Follow,
		Takeover: GiveWay,
	}
)

// OnConnack returns what to do about the reason code of a CONNACK.
func OnConnack(code byte) Action { return onConnack[Classify(code)] }

// OnDisconnect returns what to do about the reason code of a DISCONNECT from
// the server.
func OnDisconnect(code byte) Action { return onDisconnect[Classify(code)] }
