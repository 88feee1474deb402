package inbox

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/ordering"
)

// Config sets up an Inbox. Session, Workers, MaxBytes, Handle, Observer and Guard are required.
type Config[M any] struct {
	Session *session.Session
	Workers int // maximum number of messages that are handled concurrently

	QoS0Queue    int           // maximum number of QoS 0 messages that wait for one worker
	MaxBytes     int64         // limit for received messages; see Size
	StallTimeout time.Duration // how long reading pauses while messages take MaxBytes
	Full         error         // error that ends a connection whose messages had no room

	// Route appends one message to targets for each handler of a received message. Each has its own
	// dedupe key, position in the order, and attempts. later is true if another handler may still
	// be declared for the message; then the message waits during the grace period. If final is
	// true, later is false.
	Route func(m M, final bool, targets []M) (list []M, later bool)
	// Declared returns the number of declared handlers. After it changes, Route may find other
	// handlers.
	Declared func() uint64
	// Handle calls the handler of a message. It returns nil if the handler accepted the message.
	// After an error, it is called again after Backoff.
	Handle  func(ctx context.Context, d *Delivery[M]) error
	Backoff func(attempt int) time.Duration // delay before attempt+2
	// SlowAfter is the duration after which Observer reports a running call of Handle. Not
	// positive: never.
	SlowAfter time.Duration
	Verdict   func(err error) Verdict // classifies an error of Handle
	// Attempts is the number of attempts after which a message is set aside. Panics is the number
	// of consecutive attempts that panicked after which it is set aside. 0: no limit.
	Attempts, Panics int
	// Expired reports whether a message has expired and must not be handled.
	Expired func(M) bool
	// Aside stores messages whose handler failed or that have no handler. If it is nil, they are
	// refused.
	Aside Aside[M]
	// Grace is how long QoS 1 and 2 messages without a handler wait for one, counted from
	// Connected. The wait ends early when MaxWaiting messages are unacknowledged.
	Grace      time.Duration
	MaxWaiting int

	Dedupe dedupe.Cache // nil: no deduplication
	Owner  string       // owner of the claims in Dedupe
	// DedupeKey returns the key of a message. If the key is empty, the message is not deduplicated.
	// Verdict classifies the error, and the handler is not called.
	DedupeKey func(M) (string, error)

	Ordering *ordering.Options // nil: no ordering
	// Position returns the number of a message in the stream of its publisher, and its ID. If seq
	// is 0, the message has no number and is not put in order.
	Position func(M) (stream string, epoch, seq uint64, id ordering.ID)
	// Restored returns how far an earlier process has handled the stream of the message. It is
	// called for each message. nil: no stream continues.
	Restored func(M) (p ordering.Position, ok bool)

	Observer Observer[M]
	Guard    *callback.Guard // tracks the goroutines on which functions of the application run
}

// Verdict classifies an error of a handler. With the zero Verdict, the handler is called again.
type Verdict struct {
	Refused   bool // by the application, with the reason code and reason string below
	Code      byte
	Reason    string
	Permanent bool // the message is set aside at once
	Panic     bool

	store error // error of the list that could not store the message
}

// Aside durably keeps messages that were acknowledged but not handled. Its methods may wait for a
// disk. Several workers call them concurrently.
type Aside[M any] interface {
	// Add stores a message. It returns the ID, and the part of the message that Route needs; the
	// list keeps the rest.
	Add(m M, why Given) (id uint64, stored M, err error)
	// Load returns a complete message.
	Load(id uint64, stored M) (M, error)
	// Remove removes a message that was handled or refused.
	Remove(id uint64) error
	// Has reports whether a message is in the list and was not discarded. It does not block.
	Has(id uint64) bool
	// Kept reports that a message stays in the list unchanged, because it is not handled now.
	Kept(id uint64)
}

// Given is the reason why a message is set aside.
type Given struct {
	Err      error // of the last attempt; nil: the message has no handler
	Attempts int
}

// ErrAsideFull is returned by Aside.Add if the list has no room.
var ErrAsideFull = errors.New("client: the list of set-aside messages is full")

// Result is the outcome for a message that was not handled.
type Result uint8

const (
	Retried Result = iota // it is handled again
	Refused
	SetAside
	Waiting // for a handler; not acknowledged
	Dropped // at QoS 0
)

// Failure describes an attempt that failed.
type Failure struct {
	Err     error
	Attempt int       // from 1
	Since   time.Time // when the first attempt failed
	Behind  int       // messages that were received later and cannot be acknowledged before this one
	Result  Result
}

// HeldUp describes the oldest unacknowledged message while the receive window is full.
type HeldUp struct {
	Topic    string
	Since    time.Time // when it was received
	Attempts int       // failed attempts
	Behind   int
}

// Observer receives events. Its methods must not block and must not call the Inbox. They are called
// without a lock held. QoS0Dropped and Stalled are also called on the goroutine that reads the
// connection.
type Observer[M any] interface {
	HandlerFailed(m M, f Failure)
	// Unhandled reports a message without a handler. It is called again when the Result changes.
	Unhandled(m M, r Result, err error)
	Expired(m M)
	// HeldUp reports that a message prevents the server from sending later ones. It is called
	// repeatedly while that lasts.
	HeldUp(HeldUp)
	// Slow reports a call of Handle that has not returned after Config.SlowAfter. It is called
	// again at doubled intervals.
	Slow(slow.Call[M])
	// LateDropped reports a message that was dropped; see ordering.DropLate.
	LateDropped(m M)
	// NumberReused reports a message whose number another message has used before. The message is
	// handled.
	NumberReused(m M)
	// NumberRepeated reports a message that was dropped because its number is known and it has no
	// ID.
	NumberRepeated(m M)
	// QoS0Dropped reports a QoS 0 message that had no room or was not handled before Stop.
	QoS0Dropped(m M)
	Duplicate(m M)
	Gap(ordering.Gap)
	// CallbackFailed reports a panic of a function in Ordering.
	CallbackFailed(err error)
	// StoreFailed reports an error of Dedupe, or of the session's store.
	StoreFailed(err error)
	// Stalled reports that reading pauses. If leaving is true, reading continues and messages are
	// left to the server.
	Stalled(bytes int64, leaving bool)
}

// Item is a received message on its way to its handler. A message for several handlers becomes
// several items.
type Item[M any] struct {
	In       *session.Inbound // nil at QoS 0
	Message  M
	OrderKey string // messages with the same key are handled one at a time
	Size     int64  // memory in bytes; see Size
	Aside    uint64 // ID in Config.Aside; 0: the message is not from there

	OutOfOrder bool // set for Config.Handle: messages with higher numbers were handled before; see package ordering

	held    bool      // it has waited for a handler
	stored  bool      // Message is the value that Aside.Add returned; the rest must still be loaded
	routed  bool      // Message is a value that Config.Route returned
	first   bool      // it has waited for a handler; messages that still wait do not delay it
	parts   *parts    // nil: the message has one handler
	key     string    // dedupe key that the message holds in inFlight; empty: none
	tries   int       // attempts to claim the key
	awaited uint64    // token of another owner's claim that it has waited for
	copies  []receipt // of copies that arrived while it was held for order; acknowledged with it
}

// Delivery is a message that is being handled. It is valid until Handle returns.
type Delivery[M any] struct {
	Item[M]
	Claim   dedupe.Claim // zero: the message has no dedupe key
	Attempt int          // from 1

	panics  int       // consecutive attempts that panicked
	since   time.Time // of the first failure
	givenUp bool      // the handler is not called again
	last    Failure
}

// Counters counts messages by outcome.
type Counters struct {
	Received    atomic.Uint64
	Handled     atomic.Uint64 // accepted by all their handlers
	Failed      atomic.Uint64 // attempts that failed
	Refused     atomic.Uint64
	Unhandled   atomic.Uint64
	SetAside    atomic.Uint64
	Expired     atomic.Uint64
	Duplicates  atomic.Uint64
	Late        atomic.Uint64 // dropped, see ordering.DropLate
	OutOfOrder  atomic.Uint64 // late, or with a number that another message has used
	Reused      atomic.Uint64 // with a number that another message has used
	Repeated    atomic.Uint64 // dropped, because the number is known and the message has no ID
	Gaps        atomic.Uint64
	DroppedQoS0 atomic.Uint64
	Stalls      atomic.Uint64 // how often reading paused
	Bytes       atomic.Int64  // of received messages that are not finished
}
