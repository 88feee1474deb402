package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// ReceivingConfig configures inbound messages and their handlers.
type ReceivingConfig struct {
	Concurrency int // number of workers, see Handler; each handles one message at a time; default 8
	// OrderingKey returns the key of a message. Messages with the same key are handled one after
	// the other, in order of receipt. Default: the topic. Do not set OrderingKey with Ordering.
	OrderingKey func(*Message) string
	Middleware  []Middleware // wraps every handler; the first one is outermost; default: none
	// HandlerAttempts is how often the client calls a failing handler for a message before it sets
	// the message aside, see Handler. Default 0: without limit.
	HandlerAttempts int
	HandlerBackoff  reliability.Backoff // delay between calls of a failing handler, with full jitter; default: 100 ms, doubled each time, up to 30 s
	// SlowHandlerAfter is how long one call of a handler may take before the client reports it, see
	// HandlerSlow. The call continues. Default 10 s; a negative value disables the reports.
	SlowHandlerAfter time.Duration
	// HandleExpired calls handlers for expired messages too. By default an expired message is
	// acknowledged, counted and reported as ReceivedExpired.
	HandleExpired bool
	// UnhandledGrace is how long QoS 1 and 2 messages wait for a handler. The time begins with the
	// first connection. A message that was sent for a subscription of an earlier process also
	// waits, until this process declares a handler for that filter. The wait ends early when half
	// of ReceiveMaximum messages are unacknowledged. After the wait, the client sets a message
	// without a handler aside until a handler is declared. Without Config.Dir, it refuses the
	// message. Default 30 s; NoGrace disables it.
	UnhandledGrace time.Duration
	SetAside       SetAsideConfig // limits of the list of messages that were set aside

	// Dedupe suppresses messages that were handled before, except retained messages that the server
	// sends for a new subscription, see DedupeRetained. Before the client handles a message, it
	// claims the message's key in the cache under its ClientID. While another client holds that
	// claim, the message and later ones in the same queue wait. Close releases the claims and does
	// not close the cache. Default: none.
	Dedupe    dedupe.Cache
	DedupeKey KeyFunc   // returns the key of a message; default KeyByID. Other publishers need another one, such as KeyByJSON.
	Ordering  *Ordering // restores the order of numbered messages; default: none

	ReceiveMaximum    uint16 // limit of received, unacknowledged QoS 1 and 2 messages; default 1,024
	TopicAliasMaximum uint16 // number of topic aliases that the server may use; default 0
	QoS0QueueSize     int    // limit of QoS 0 messages that wait for one worker; further ones are dropped and counted; default 1,024
	// MaxBufferedBytes limits the bytes of received messages that wait, are being handled, or are
	// held back to restore order. At the limit the client drops and counts QoS 0 messages, and
	// stops reading QoS 1 and 2 messages until handlers free space. If handlers free no space
	// within AckTimeout, the connection ends with an *InboundFullError. The server then redelivers
	// the messages. Default 64 MiB; one packet of MaximumPacketSize always fits.
	MaxBufferedBytes int
}

// Ordering restores the order of numbered messages, per publisher and topic. Ordering does not
// apply to Shared Subscriptions. Messages of Shared Subscriptions are handled in order of receipt,
// without reports of gaps.
//
// If a message with the same number was handled before, the ID of the new message decides. A known
// ID makes it a duplicate. A message with a new ID is handled, with Message.OutOfOrder set, and
// reported as [NumberReused]. A message without an ID is dropped and reported as [NumberRepeated].
//
// With ReceivingConfig.Dedupe, the cache detects duplicates of messages that have a key. For
// messages without a key, the client compares the last MaxIDs IDs of each publisher and topic. The
// default of MaxIDs is 1,024, or ReceiveMaximum if that is greater. MaxIDBytes and MaxStreamBytes
// limit all workers together.
//
// A publisher's epoch is the time at which its store was created or renewed, see [StoreRenewed]. If
// a device loses its store while its clock is unset or set back, its new epoch is older than its
// previous one. Receivers then treat its messages as late. The same happens if a copy of a store is
// used under the same Publisher as the original. Do not use DropLate with such devices, because it
// drops their messages, see [LateDropped].
type Ordering struct {
	ordering.Options
	Restore []Position // last handled number of each publisher and topic, to continue after a restart; default: none
}

// Position is the sequence number of the last handled message of one publisher and topic.
type Position struct {
	Publisher, Topic string // publisher and topic of the numbered messages
	Epoch, Seq       uint64 // epoch and sequence number of the last handled message
	// IDs are the IDs of the messages handled last, oldest first. Set them unless Dedupe is kept in
	// a file. Without IDs, a message that is redelivered after the restart is handled again, with
	// Message.OutOfOrder.
	IDs []MessageID
}
