package outbox

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Config connects an Outbox to its surroundings.
type Config struct {
	Store   Store
	Breaker *reliability.Breaker

	WhenFull FullPolicy
	// StoreDrops: the store may drop unsent messages to make room. The sent
	// watermark then never covers a message that is not stored yet.
	StoreDrops     bool
	DeadLetters    bool                          // refused messages end as DeadLettered
	OnSessionLost  persistence.SessionLostPolicy // of messages that do not choose
	PoisonAttempts int                           // connections that one message may end
	MaxAge         time.Duration                 // of the store; 0: none or unknown

	// Describe returns the error that the application gets for an End whose State
	// is not Acked. It must not block.
	Describe func(End) error

	// The functions below report facts. They run on any goroutine, several at a
	// time, and without a lock held.

	Ended       func(End)   // once for each message, when its result is recorded
	StoreFailed func(error) // the store returned an error
}

// Store is the part of a persistence.Store that the outbox needs.
type Store interface {
	persistence.Outbox
	Stream(name string) (id uint32, last uint64, err error)
	ResetSession(clientID string) error
	Sync() error
	Now() time.Time
	Stats() persistence.Stats
}

// End is the end of one message, in the facts that its error is made of.
type End struct {
	ID     [16]byte // zero: unknown, an earlier process accepted the message
	State  State
	Cause  Cause
	Reason byte   // MQTT reason code
	Text   string // the server's reason string, with ByServer
	// Attempts is the number of connections that the server ended, with Poison.
	Attempts int
	// Err is the cause until Describe has run: the store's error with StoreFull, a
	// *DamageError with Damaged. Then it is the application's error.
	Err error

	stored bool // the store has ended the message itself
}

// State is what became of a message.
type State uint8

// The states. A message is Pending until exactly one of the others is final. All but
// the last are the store's.
const (
	Pending      State = 0
	Acked              = State(persistence.Acked)
	Refused            = State(persistence.Refused)
	Expired            = State(persistence.Expired)
	Dropped            = State(persistence.Dropped)
	DeadLettered       = State(persistence.DeadLettered)
	Abandoned    State = 6 // the outbox was closed; the message stays in the store
)

// Cause is why a message ended with its State.
type Cause uint8

// The causes.
const (
	ByServer    Cause = iota // acknowledged, with Reason
	ByLimit                  // the server does not accept such a packet, as Reason says
	Poison                   // the server ended Attempts connections over it, at last with Reason
	TimePassed               // it expired
	StoreFull                // dropped to make room, or for lack of it
	Replaced                 // replaced by a newer message with the same key
	SessionLost              // its session was lost, and it is not to be sent twice
	Damaged                  // its record cannot be read
)

// refused is an End with this reason code. The breaker hears of it.
func (o *Outbox) refused(cause Cause, reason byte) End {
	state := Refused
	if o.cfg.DeadLetters {
		state = DeadLettered
	}
	return End{State: state, Cause: cause, Reason: reason}
}

// result is what the store records.
func (e End) result() persistence.Result {
	return persistence.Result{Kind: persistence.ResultKind(e.State), Reason: e.Reason}
}

// judged returns what the breaker hears: the error of a message that was sent and
// refused, nil if it was acknowledged, errNotTried if the End says nothing about
// the server.
func (e End) judged() error {
	switch e.State {
	case Acked, Refused, DeadLettered:
		return e.Err
	}
	return errNotTried
}
