package persistence

import "time"

// Result is the final state of a message.
type Result struct {
	Kind   ResultKind // 0: the message is pending
	Reason byte       // MQTT reason code; 0 if there is none
}

// ResultKind is the counter in which a message ends.
type ResultKind uint8

// The results. 0 is not a result.
const (
	Acked        ResultKind = 1 + iota // the server acknowledged it
	Refused                            // the server acknowledged it with a reason code of 0x80 or above
	Expired                            // it expired before it was sent
	Dropped                            // dropped by a limit or by the application, or lost to corruption
	DeadLettered                       // set aside and kept: the server does not accept it
)

// String returns the name of the result.
func (k ResultKind) String() string {
	switch k {
	case Acked:
		return "acked"
	case Refused:
		return "refused"
	case Expired:
		return "expired"
	case Dropped:
		return "dropped"
	case DeadLettered:
		return "dead-lettered"
	}
	return "pending"
}

// Receipt is the state or result of a message.
type Receipt struct {
	Seq    uint64
	Result Result
	At     time.Time // time of the result, by the store's clock; zero while pending
}
