package outbox

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Config connects an Outbox to its surroundings.
type Config struct {
	Store   Store
	Breaker *reliability.Breaker

	WhenFull FullPolicy
	// StoreDrops: the store may drop unsent messages to make room. Then the sent watermark covers
	// only messages that are already stored.
	StoreDrops     bool
	DeadLetters    bool                          // refused messages end as DeadLettered
	OnSessionLost  persistence.SessionLostPolicy // default for messages that set no policy
	SentLost       bool                          // the store has lost messages that were sent in this session
	Adopted        bool                          // another client began this session and may have used any packet identifier
	PoisonAttempts int                           // number of connections that one message may end; 0: no limit
	Rules          []deferral.Rule               // for refusals; the first matching rule applies
	Retry          reliability.Backoff           // backoff for deferred messages
	// Limits for deferred messages. A message that would be deferred is refused while a limit is
	// reached. 0: no limit.
	MaxDeferred      int
	MaxDeferredBytes int64
	MaxAge           time.Duration // MaxAge of the store; 0: none or unknown

	// Unnumbered is called for each message that is accepted without a number because the store has
	// no room for its stream. If it is nil, Add returns an error for such a message.
	Unnumbered func(id [16]byte, topic string)

	// Describe returns the error that the application gets for an End whose State is not Acked. It
	// must not block. Describe and the functions below run on any goroutine, concurrently, and
	// without a lock held.
	Describe    func(End) error
	Ended       func(End)   // called once for each message, after its result is recorded
	Deferred    func(Delay) // called each time the server refuses a message for now; may be nil
	StoreFailed func(error) // the store returned an error
	PurgeFailed func(n int) // called when the server did not answer the purge of n packet identifiers; may be nil
	Stuck       func()      // called when the server refuses messages and only a new session can help; may be nil
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

// Draft is a message for Add. Add sets the fields Accepted, Expires, Stream, StreamSeq and Packet
// of Message.
type Draft struct {
	persistence.Message
	Topic      string
	Expiry     time.Duration                          // lifetime; 0: the message does not expire
	Block      bool                                   // Add waits for room, whatever the policy
	StreamName string                                 // the stream that numbers the message; empty: none
	Encode     func(dst []byte, number uint64) []byte // appends the PUBLISH of the message; number 0: no number
}

// FullPolicy defines what Add does when the store's MaxMessages, MaxBytes or MaxDiskBytes
// is reached.
type FullPolicy uint8

const (
	Reject     FullPolicy = iota // Add returns the store's error
	Block                        // Add waits for room
	DropOldest                   // the store drops older messages
	DropNewest                   // Add drops the new message
)
