package persistence

import (
	"context"
	"time"
)

// Store keeps the pending messages and the state of the MQTT session. A message is pending from its
// acceptance until it has a result. [Log] keeps them on disk, [Memory] in memory.
//
// A custom store may also implement [Receipts] and [DeadLetters]; the client checks for both by type
// assertion. persistencetest.Run tests a store.
//
// All methods are safe for concurrent use. The client does not read from the network while it waits
// for Release, Done, Seen or Cleared. After Close, every method that can return an error returns
// [ErrClosed]. While the disk refuses writes, Enqueue returns [ErrDegraded], and so do the methods
// that make records durable. After a custom store has failed permanently, every method that can
// return an error returns [ErrFailed].
type Store interface {
	Outbox
	SessionState
	Streams
	// Now returns the time of the store. The acceptance and expiry of messages use this clock. A
	// custom store may return time.Now().
	//
	// [Log] and [Memory] return the system time, with three exceptions. The time does not step
	// while the store is open. It does not go back from one opening to the next. While messages are
	// pending, it does not jump from a clock that was never set, which shows a time before the year
	// 2020.
	Now() time.Time
	// Stats returns the counters. A custom store sets those from Accepted to PendingBytes.
	Stats() Stats
	// Close makes all records durable and releases the store. A second Close returns nil.
	Close() error
}

// Outbox is the queue of accepted messages.
type Outbox interface {
	// Enqueue assigns the next sequence to a message and copies its packet. The message is accepted
	// when Wait has returned nil for the ticket. Sequences are 1, 2, 3… without gaps, across
	// restarts, and are not reused. At a limit, Limits.WhenFull applies, and Ticket.Drops lists the
	// messages that were dropped to make room. Errors: [ErrFull], [ErrPacketTooLarge],
	// [ErrUnknownStream], [ErrPriority], [ErrKey], [ErrSessionLostPolicy]. If Enqueue has to wait
	// and ctx ends, it returns the cause of ctx. If it returns an error, the message was not
	// stored.
	Enqueue(ctx context.Context, m *Message) (Ticket, error)
	// Wait returns nil once the message of the ticket is durable under the sync policy. Concurrent
	// callers share one write and one sync. If ctx ends first, Wait returns the cause of ctx, and
	// the store still writes the message. A [Log] returns a *[StalledError] after
	// Options.WriteTimeout. After any other error, the message may or may not exist when the store
	// is opened again, or after the outage if the error is an [ErrDegraded].
	Wait(ctx context.Context, t Ticket) error
	// Next sets e to the first durable, pending, undeferred message after c, and reports whether
	// there is one. The order is by descending priority, and by sequence within a priority.
	// e.Packet is valid until the next call with the same e. Error: *[ReadError].
	Next(c *Cursor, e *Entry) (bool, error)
	// Get sets e to the message with this sequence, and reports whether it is pending. Error:
	// *[ReadError].
	Get(seq uint64, e *Entry) (bool, error)
	// First returns the Number of the first pending message of a priority that is not deferred, or 0.
	First(p Priority) uint64
	// LastSeq returns the highest sequence assigned in any opening, or 0.
	LastSeq() uint64
	// SetSent sets the sent watermark of a priority to a Number, and returns when that is durable.
	// Messages up to the watermark may have been sent, so the store does not drop them to make
	// room. It may drop messages above the watermark. Before the caller sends a message that it
	// read earlier, it must therefore check with Get that the message is still pending. When the
	// caller ends and knows that no message above a lower Number was sent, it sets the watermark to
	// that Number. Errors: [ErrPriority]; [ErrUnknownSequence] for a Number above 1<<62.
	SetSent(p Priority, number uint64) error
	// Sent returns the sent watermark of a priority in this session, or 0.
	Sent(p Priority) uint64
	// Release records that the server has received a QoS 2 message (PUBREC). From then on, the sender
	// sends PUBREL for the message and not the message itself [MQTT-4.3.3-6]. The next call of Next
	// returns it as released. The record is durable after the next Sync.
	Release(seq uint64) error
	// Released returns the pending messages that were released in this session, also by earlier
	// processes, in the order of the calls of Release. PUBREL is resent in the order in which PUBREC
	// was received [MQTT-4.6.0-4].
	Released() []Position
	// Defer excludes a pending message from Next, or changes its deferral. It has no effect on a
	// message that was released or has ended. The record is durable after the next Sync. Errors:
	// [ErrDeferral], [ErrUnknownSequence].
	Defer(seq uint64, d Deferral) error
	// Deferred returns the deferred messages, including released ones, by ascending sequence.
	Deferred() []Deferred
	// Done records the result of a message and removes it from the outbox. Only the first call for
	// a sequence has an effect. The record needs no sync: if it is lost, the message is sent again,
	// which MQTT allows. Errors: [ErrUnknownResult], [ErrUnknownSequence].
	Done(seq uint64, r Result) error
}

// SessionState is the state of the MQTT session, apart from the outbox.
type SessionState interface {
	// Seen records that an inbound QoS 2 message was handled. It replaces an earlier record for the
	// same packet identifier. The record is durable after the next Sync. Error: [ErrPacketID] for
	// the identifier 0.
	Seen(id uint16, fingerprint uint64) error
	// Cleared removes the record of Seen for a packet identifier. The identifier is free when
	// PUBREL was received, or when the server uses it for another message. The record is durable
	// after the next Sync. Error: [ErrPacketID] for the identifier 0.
	Cleared(id uint16) error
	// SeenIDs returns a new map of the seen and not cleared packet identifiers to their
	// fingerprints. A fingerprint is never 0; the value 0 means that an earlier release recorded
	// none.
	SeenIDs() map[uint16]uint64
	// FingerprintKey returns the key of the fingerprints. The store generates it once at random, and
	// makes it durable before it returns it. A store that has lost its key returns 0 for the
	// fingerprints that it has. A copy of a store may keep the key.
	FingerprintKey() [16]byte
	// ResetSession records that the server has begun a new session for this ClientID, which is
	// empty if unknown. It voids all releases, seen packet identifiers and sent watermarks;
	// messages stay pending. It returns when all records up to this one are durable. Error:
	// [ErrClientID].
	ResetSession(clientID string) error
	// Session returns the ClientID of the last ResetSession [MQTT-3.1.3-2], and whether
	// ResetSession was ever called. The ClientID is empty if it is unknown. If ResetSession was
	// never called, the server may have a session that the store knows nothing about.
	Session() (clientID string, known bool)
	// Sync returns nil once all earlier records are durable under the sync policy. Concurrent callers
	// share one sync.
	Sync() error
}

// Streams are named sequences. Each numbers the messages of one topic.
type Streams interface {
	// Stream returns the ID of a named sequence, and the highest StreamSeq stored in it, or 0. It
	// registers a new name. Limits.MaxStreams bounds the number of names. Errors: [ErrFull],
	// [ErrStreamName].
	Stream(name string) (id uint32, last uint64, err error)
	// Epoch returns the epoch of the sequence numbers of this store. It is usually the time at which
	// the epoch began, in Unix milliseconds. It does not change while the store is open.
	//
	// A receiver assumes that a number identifies one message of an epoch. If a store assigned a
	// number twice in one epoch, the receiver would handle the second message out of order, or drop
	// it if it has no message ID. An opening must therefore begin a higher epoch in two cases: a
	// power failure or damage may have removed the last number of a stream, or the store is a copy
	// of another one.
	//
	// [Log] does this by itself, see [Renewal]. A custom store that syncs its commits, as Wait
	// requires, only has to begin a new epoch for a copy, and must then also void the session. A
	// store whose data is lost with the process begins a new epoch whenever it is created.
	// [NextEpoch] returns a suitable epoch, even if the clock was never set.
	Epoch() uint64
}

// Receipts is the optional part of a [Store] that finds messages by ID, including ended ones.
type Receipts interface {
	// Receipt returns the state or result of the newest message with this ID. It returns false if
	// nothing is known about the ID. A pending message is always found. Ended messages are only
	// found if Retention.MaxReceipts is set.
	Receipt(id [16]byte) (Receipt, bool, error)
}

// DeadLetters is the optional part of a [Store] that keeps dead letters.
type DeadLetters interface {
	// DeadLetters calls yield for each dead letter, by ascending sequence, until yield returns false.
	// yield may call the store.
	DeadLetters(yield func(e *Entry, reason byte) bool) error
	// Discard removes a dead letter. The record needs no sync.
	Discard(seq uint64) error
}

// Append enqueues a message and waits until it is durable. It cannot be canceled.
func Append(s Outbox, m *Message) (seq uint64, err error) {
	t, err := s.Enqueue(context.Background(), m)
	if err == nil {
		err = s.Wait(context.Background(), t)
	}
	return t.Seq, err
}
