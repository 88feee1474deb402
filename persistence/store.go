package persistence

import (
	"context"
	"time"
)

// Store keeps the messages that were accepted and have no result yet, and the
// state of the MQTT session. [Log] keeps them on disk, [Memory] in memory.
//
// A custom store may also implement [Receipts] and [DeadLetters], which the client
// finds by type assertion. persistencetest.Run tests a store.
//
// All methods are safe for concurrent use. While Release, Done, Seen and Cleared wait,
// the network is not read. After Close, each method that returns an error returns
// [ErrClosed]. While the disk refuses to write, Enqueue and what makes records durable return
// [ErrDegraded]; when a custom store has failed for good, each method returns [ErrFailed].
type Store interface {
	Outbox
	SessionState
	Streams
	// Now returns the store's time. Messages are accepted and expire by this clock. [Log] and
	// [Memory] return the system's time, except that it does not step while the store is open, does
	// not go back between two openings, and does not jump from a clock that was never set (before
	// the year 2020) while messages are pending. A custom store may return time.Now().
	Now() time.Time
	// Stats returns the counters. A custom store fills those from Accepted to PendingBytes.
	Stats() Stats
	// Close makes all records durable and releases the store. A second Close returns nil.
	Close() error
}

// Outbox is the queue of accepted messages.
type Outbox interface {
	// Enqueue gives the message the next sequence and copies its packet. Sequences are 1, 2, 3…
	// without gaps and are never reused, across restarts. The message is accepted when Wait has
	// returned nil for the ticket. If a limit is reached, Limits.WhenFull applies; Ticket.Drops are
	// the messages that were dropped for this one. Errors: [ErrFull], [ErrPacketTooLarge],
	// [ErrUnknownStream], [ErrPriority], [ErrKey], [ErrSessionLostPolicy]. If it has to wait and ctx
	// ends, it returns the cause. After an error nothing was stored.
	Enqueue(ctx context.Context, m *Message) (Ticket, error)
	// Wait returns nil once the ticket's message is durable under the sync policy.
	// Concurrent waiters share one write and one sync. If ctx ends first, Wait returns the cause, and
	// the message is stored later; [Log] returns a *[StalledError] after Options.WriteTimeout. After
	// another error the message may or may not exist when the store is opened again, or when an
	// [ErrDegraded] has passed.
	Wait(ctx context.Context, t Ticket) error
	// Next sets e to the first durable, pending message after c that is not deferred, and
	// reports whether there is one. Messages come by descending priority, and within a priority by
	// sequence. e.Packet is valid until the next call with the same e. Error:
	// *[ReadError].
	Next(c *Cursor, e *Entry) (bool, error)
	// Get sets e to this message, and reports whether it is pending. Error:
	// *[ReadError].
	Get(seq uint64, e *Entry) (bool, error)
	// First returns the Number of the first pending message of a priority that is not
	// deferred, or 0.
	First(p Priority) uint64
	// LastSeq returns the highest sequence given to a message in any opening, or 0.
	LastSeq() uint64
	// SetSent sets the sent watermark of a priority to this Number, and returns when that is
	// durable. Messages up to the watermark may have been sent: they are not dropped to make room.
	// Messages above it may be dropped, so the caller must look again with Get before it sends a
	// message that it read earlier. The caller lowers the watermark when it ends and knows that no
	// message above it was sent. Errors: [ErrPriority], [ErrUnknownSequence] above 1<<62.
	SetSent(p Priority, number uint64) error
	// Sent returns the sent watermark of a priority in this session, or 0.
	Sent(p Priority) uint64
	// Release records that the server has received a QoS 2 message (PUBREC): from now
	// on PUBREL is sent for it, and never the message [MQTT-4.3.3-6]. Next shows this
	// at once. It is durable after the next Sync.
	Release(seq uint64) error
	// Released returns the pending messages that were released in this session, by
	// this process or an earlier one, in the order of the calls of Release: PUBREL is
	// resent in the order of PUBREC [MQTT-4.6.0-4].
	Released() []Position
	// Defer takes a pending message out of what Next returns, or changes its deferral. It has no
	// effect on a message that was released or has ended. It is durable after the next Sync.
	// Errors: [ErrDeferral], [ErrUnknownSequence].
	Defer(seq uint64, d Deferral) error
	// Deferred returns the deferred messages by ascending sequence, released ones included.
	Deferred() []Deferred
	// Done records the result of a message and removes it from the outbox. Only the
	// first call for a sequence has an effect. It needs no sync: if the record is lost,
	// the message is sent again, which MQTT allows.
	Done(seq uint64, r Result) error
}

// SessionState is the state of the MQTT session beside the outbox.
type SessionState interface {
	// Seen records that the inbound QoS 2 message with this packet identifier and fingerprint was
	// handled. It replaces what was recorded for the identifier. Cleared records that the
	// identifier is free again: PUBREL was received, or the server uses it for another message.
	// Both are durable after the next Sync. Error: [ErrPacketID] for the identifier 0.
	Seen(id uint16, fingerprint uint64) error
	Cleared(id uint16) error
	// SeenIDs returns the identifiers that were seen and not cleared, each with its fingerprint, in
	// a map of the caller's. A fingerprint is never 0, but the store returns 0 for an
	// identifier that an earlier release recorded without one.
	SeenIDs() map[uint16]uint64
	// FingerprintKey returns the key of the fingerprints: random bytes that the store makes once,
	// and makes durable before it returns them. A store without its old key returns 0 for the
	// fingerprints that it has. A copy of a store may keep the key.
	FingerprintKey() [16]byte
	// ResetSession records that the server has begun a new session for this ClientID
	// (empty: unknown). It voids all releases, seen identifiers and sent watermarks;
	// messages stay pending. It returns when that is durable, and everything recorded
	// before the call is then durable too. Error: [ErrClientID].
	ResetSession(clientID string) error
	// Session returns the ClientID given to the last ResetSession [MQTT-3.1.3-2], empty
	// if that is unknown, and whether ResetSession was ever called. Otherwise the store
	// knows nothing about a session that the server may have.
	Session() (clientID string, known bool)
	// Sync returns nil once everything recorded before the call is durable under the
	// sync policy. Concurrent callers share one sync.
	Sync() error
}

// Streams are named sequences, which number the messages of a topic.
type Streams interface {
	// Stream returns the ID of a named sequence, and the highest StreamSeq stored
	// under it (0: none). It registers a new name. The number of names is bounded.
	// Errors: [ErrFull], [ErrStreamName].
	Stream(name string) (id uint32, last uint64, err error)
	// Epoch identifies the numbers of this store: the time at which the epoch began, in Unix
	// milliseconds. It does not change while the store is open. A receiver cannot restore the order
	// of messages whose numbers it has handled in the same epoch: it handles them out of order, or
	// drops those without a message ID. So an opening must begin a higher epoch if a number of this
	// one may be given out again: if a power failure or damage may have taken the last
	// number of a stream, or if the store is a copy of another one. [Log] does, see [Renewal]. A
	// custom store whose commits are synced, as Wait promises, only has to begin one for a copy; it
	// has to void the session then too. A store that ends with its process is created with a new
	// epoch each time. [NextEpoch] returns an epoch that also holds under a clock that was never set.
	Epoch() uint64
}

// Receipts is the optional part of a [Store] that finds messages by ID, and keeps results of ended
// messages.
type Receipts interface {
	// Receipt returns the state or result of the newest message with this ID, and
	// false if nothing is known about it. A message that is pending is always found. Without
	// Retention.MaxReceipts, it is the newest pending one.
	Receipt(id [16]byte) (Receipt, bool, error)
}

// DeadLetters is the optional part of a [Store] that keeps dead-lettered messages.
type DeadLetters interface {
	// DeadLetters calls yield for each dead letter, by ascending sequence, until
	// yield returns false. yield may call the store.
	DeadLetters(yield func(e *Entry, reason byte) bool) error
	// Discard removes a dead letter. It needs no sync.
	Discard(seq uint64) error
}

// Append enqueues a message and waits until it is durable, without a context.
func Append(s Outbox, m *Message) (seq uint64, err error) {
	t, err := s.Enqueue(context.Background(), m)
	if err == nil {
		err = s.Wait(context.Background(), t)
	}
	return t.Seq, err
}
