package inbox

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/ordering"
)

// Config sets up an Inbox. Session, Workers, MaxBytes, Handle, Observer and Guard are required.
type Config[M any] struct {
	Session *session.Session
	Workers int // messages that are handled at the same time

	QoS0Queue    int           // QoS 0 messages that may wait for one worker
	MaxBytes     int64         // of received messages, see Size
	StallTimeout time.Duration // how long reading stops while messages take MaxBytes
	Full         error         // ends a connection whose messages have had no room

	// Route appends one message for each handler of a received message. Each has its own dedupe key,
	// position in the order, and attempts. later is true if another handler may still be declared for
	// the message; then the message waits during the grace period. If final is set, later is false.
	Route func(m M, final bool, targets []M) (list []M, later bool)
	// Declared returns the number of declared handlers. When it changes, Route may find other handlers.
	Declared func() uint64
	// Handle calls the handler of a message. It returns nil if that accepted the message. After an
	// error it is called again, after Backoff.
	Handle  func(ctx context.Context, d *Delivery[M]) error
	Backoff func(attempt int) time.Duration // before attempt+2
	Verdict func(err error) Verdict         // what an error of Handle means
	// Attempts is the number of attempts after which a message is set aside, and Panics the number of
	// attempts in a row that panicked; 0: no limit.
	Attempts, Panics int
	// Expired reports whether a message has expired and is not to be handled.
	Expired func(M) bool
	// Aside stores messages whose handler failed, or that have no handler; nil: they are refused.
	Aside Aside[M]
	// Grace is how long QoS 1 and 2 messages without a handler wait for one, from Connected on. It
	// ends early when MaxWaiting messages are not acknowledged.
	Grace      time.Duration
	MaxWaiting int

	Dedupe    dedupe.Cache   // nil: none
	Owner     string         // of claims in Dedupe
	DedupeKey func(M) string // an empty key lets the message pass

	Ordering *ordering.Options // nil: none
	// Position returns the number of a message in the stream of its publisher, and its ID; seq 0: it
	// has no number, and is not put in order.
	Position func(M) (stream string, epoch, seq uint64, id ordering.ID)
	// Restored returns how far an earlier process has handled the stream, at the first message of a
	// stream; nil: no stream goes on.
	Restored func(M) (p ordering.Position, ok bool)

	Observer Observer[M]
	Guard    *callback.Guard // knows the goroutines on which functions of the application run
}

// Verdict is what an error of a handler means. The zero Verdict: the handler is called again.
type Verdict struct {
	Refused   bool // by the application, with this reason code and reason string
	Code      byte
	Reason    string
	Permanent bool // the message is set aside at once
	Panic     bool

	store error // of the list, which could not store the message
}

// Aside keeps messages durably that were acknowledged and not handled. Its methods may wait for a
// disk. They are called by several workers at the same time.
type Aside[M any] interface {
	// Add stores a message. It returns its ID, and what Route needs of it; the rest is in the list.
	Add(m M, why Given) (id uint64, stored M, err error)
	// Load returns a whole message.
	Load(id uint64, stored M) (M, error)
	// Remove removes a message that was handled, or refused.
	Remove(id uint64) error
	// Has reports whether a message is in the list, and was not discarded. It does not wait.
	Has(id uint64) bool
	// Kept reports that a message stays in the list as it was: it is not handled now.
	Kept(id uint64)
}

// Given is the reason why a message is set aside.
type Given struct {
	Err      error // of the last attempt; nil: it has no handler
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

// HeldUp describes the oldest message that is not acknowledged, while the server may send no more.
type HeldUp struct {
	Topic    string
	Since    time.Time // when it was received
	Attempts int       // that failed
	Behind   int
}

// Observer receives facts. Its methods must not block, and must not call the Inbox. No lock is held.
// QoS0Dropped and Stalled are also called on the goroutine that reads the connection.
type Observer[M any] interface {
	HandlerFailed(m M, f Failure)
	// Unhandled reports a message without a handler. It is called again when its Result changes.
	Unhandled(m M, r Result, err error)
	Expired(m M)
	// HeldUp reports that a message prevents the receipt of later ones. It is called again while that lasts.
	HeldUp(HeldUp)
	// LateDropped reports a message that was dropped, see ordering.DropLate.
	LateDropped(m M)
	// NumberReused reports a message whose number another message has had. It is handled.
	NumberReused(m M)
	// NumberRepeated reports a message that was dropped: its number is known, and it has no ID.
	NumberRepeated(m M)
	// QoS0Dropped reports a QoS 0 message without room, or that was not handled before Stop.
	QoS0Dropped(m M)
	Duplicate(m M)
	Gap(ordering.Gap)
	// CallbackFailed reports a panic of a function in Ordering.
	CallbackFailed(err error)
	// StoreFailed reports an error of Dedupe, or of the session's store.
	StoreFailed(err error)
	// Stalled reports that reading stops, or goes on without taking messages: leaving.
	Stalled(bytes int64, leaving bool)
}

// Item is a received message on its way to its handler. A message for several handlers becomes
// several items.
type Item[M any] struct {
	In       *session.Inbound // nil at QoS 0
	Message  M
	OrderKey string // messages with the same key are handled one after the other
	Size     int64  // in memory, see Size
	Aside    uint64 // ID in Config.Aside; 0: the message is not from there

	OutOfOrder bool // set for Config.Handle: messages with higher numbers came before, see package ordering

	held    bool      // it has waited for a handler
	stored  bool      // Message is what Aside.Add returned: the rest is still to be loaded
	routed  bool      // Message is one that Config.Route has returned
	first   bool      // it has waited for a handler; messages that still wait do not delay it
	parts   *parts    // nil: the message has one handler
	key     string    // dedupe key that the message holds in inFlight; empty: none
	tries   int       // of claiming it
	awaited uint64    // token of another owner's claim that it has waited for
	copies  []receipt // of copies that came while it was held for order, acknowledged with it
}

// Delivery is a message while it is handled. It is valid until Handle returns.
type Delivery[M any] struct {
	Item[M]
	Claim   dedupe.Claim // zero: the message has no dedupe key
	Attempt int          // from 1

	panics  int       // attempts in a row
	since   time.Time // of the first failure
	givenUp bool      // the handler is not called again
	last    Failure
}

// Counters count what became of messages.
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
	OutOfOrder  atomic.Uint64 // late, or under a number that another message has had
	Reused      atomic.Uint64 // under a number that another message has had
	Repeated    atomic.Uint64 // dropped: number known, no ID
	Gaps        atomic.Uint64
	DroppedQoS0 atomic.Uint64
	Stalls      atomic.Uint64 // times that reading stopped
	Bytes       atomic.Int64  // of messages that are received and not finished
}
