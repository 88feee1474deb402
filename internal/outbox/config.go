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
	// StoreDrops: the store may drop unsent messages to make room. The sent
	// watermark then never covers a message that is not stored yet.
	StoreDrops     bool
	DeadLetters    bool                          // refused messages end as DeadLettered
	OnSessionLost  persistence.SessionLostPolicy // of messages that do not choose
	SentLost       bool                          // the store has lost messages that were sent in this session
	Adopted        bool                          // this session was begun by others, who may have used any packet identifier
	PoisonAttempts int                           // connections that one message may end; 0: any number
	Rules          []deferral.Rule               // for refusals; the first that matches applies
	Retry          reliability.Backoff           // of deferred messages
	// A message that would be deferred is not accepted while so many messages or bytes are; 0: no limit.
	MaxDeferred      int
	MaxDeferredBytes int64
	MaxAge           time.Duration // of the store; 0: none or unknown

	// Unnumbered gets each message that is accepted without number because its stream finds no room in the
	// store. nil: such a message is not accepted.
	Unnumbered func(id [16]byte, topic string)

	// Describe returns the error that the application gets for an End whose State
	// is not Acked. It must not block. It and the functions below run on any
	// goroutine, several at a time, and without a lock held.
	Describe    func(End) error
	Ended       func(End)   // once for each message, when its result is recorded
	Deferred    func(Delay) // each time that the server refuses a message for now; nil: nobody asks
	StoreFailed func(error) // the store returned an error
	PurgeFailed func(n int) // the server did not answer the purge of so many packet identifiers; nil: nobody asks
	Stuck       func()      // the server refuses messages, and only a new session can help; nil: nobody asks
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

// Draft is a message for Add. Of Message, Add sets Accepted, Expires, Stream, StreamSeq and Packet.
type Draft struct {
	persistence.Message
	Topic      string
	Expiry     time.Duration                          // lifetime; 0: it does not expire
	StreamName string                                 // the stream that numbers it; empty: none
	Encode     func(dst []byte, number uint64) []byte // appends its PUBLISH; number 0: none
}

// FullPolicy is what Add does when the store's MaxMessages or MaxBytes is reached.
type FullPolicy uint8

const (
	Reject     FullPolicy = iota // Add returns the store's error
	Block                        // Add waits for room
	DropOldest                   // the store drops older messages
	DropNewest                   // Add drops the new message
)
