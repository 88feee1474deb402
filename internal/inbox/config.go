package inbox

import (
	"context"
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

	// Route appends the messages that a received message is handled as, one for each handler.
	// Each has its dedupe key, its place in the order and its attempts.
	Route func(m M, targets []M) []M
	// Handle calls the handler of a message. It returns nil if that accepted the message. After an
	// error it is called again, after Backoff, up to Attempts times.
	Handle   func(ctx context.Context, d *Delivery[M]) error
	Attempts int
	Backoff  func(attempt int) time.Duration // before attempt+2
	// Refusal reports whether an error of Handle refuses the message, and with which
	// reason code and reason string.
	Refusal func(err error) (code byte, reason string, refused bool)

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

// Observer receives facts. Its methods must not block, and must not call the Inbox. No lock is held.
// QoS0Dropped and Stalled are also called on the goroutine that reads the connection.
type Observer[M any] interface {
	// HandlerFailed reports an attempt that failed; refused: it was the last.
	HandlerFailed(m M, err error, refused bool)
	Unhandled(m M)
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

	OutOfOrder bool // set for Config.Handle: messages with higher numbers came before, see package ordering

	routed  bool   // Message is one that Config.Route has returned
	parts   *parts // nil: the message has one handler
	key     string // dedupe key that the message holds in inFlight; empty: none
	tries   int    // of claiming it
	awaited uint64 // token of another owner's claim that it has waited for
}

// Delivery is a message while it is handled. It is valid until Handle returns.
type Delivery[M any] struct {
	Item[M]
	Claim   dedupe.Claim // zero: the message has no dedupe key
	Attempt int          // from 1
}

// Counters count what became of messages.
type Counters struct {
	Received    atomic.Uint64
	Handled     atomic.Uint64 // accepted by all their handlers
	Failed      atomic.Uint64 // attempts that failed
	Refused     atomic.Uint64
	Unhandled   atomic.Uint64
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
