package persistence

import (
	"context"
	"time"
)

// Store keeps the pending messages and the state of the MQTT session. A message is pending from its
// acceptance until it has a result. [Log] is a store on disk. [Memory] is a store in memory.
//
// A custom store may also implement [Receipts] and [DeadLetters]. The client checks for both by
// type assertion. persistencetest.Run tests a custom store.
//
// All methods are safe for concurrent use. Release, Done, Seen and Cleared must be fast, because
// the client does not read from the network while it waits for them. After Close, every method that
// can return an error returns [ErrClosed]. While the disk refuses writes, Enqueue and the methods
// that make records durable return [ErrDegraded]. After a custom store has failed permanently,
// every method that can return an error returns [ErrFailed].
type Store interface {
	Outbox
	SessionState
	Streams
	// Now returns the time of the store. The store uses this clock for the acceptance and the
	// expiry of messages. A custom store may return time.Now().
	//
	// [Log] and [Memory] return the system time, with three exceptions:
	//
	//   - The time does not jump while the store is open.
	//   - While messages are pending, the time does not go back from one opening to the next.
	//   - While messages are pending, the time does not jump when a clock is set for the first
	//     time. A clock that was never set shows a time before the year 2020.
	Now() time.Time
	// Stats returns the counters. A custom store must set the fields from Accepted to PendingBytes.
	Stats() Stats
	// Close makes all records durable and frees the resources of the store. A second Close returns
	// nil.
	Close() error
}

// Outbox is the queue of accepted messages.
type Outbox interface {
	// Enqueue assigns the next sequence to a message and copies its packet. The message is accepted
	// when Wait has returned nil for the ticket. Sequences are 1, 2, 3 and so on without gaps, also
	// after restarts. They are not reused. At a limit, Limits.WhenFull applies. Ticket.Drops lists
	// the messages that were dropped to make room.
	//
	// If Enqueue returns an error, the message was not stored. Errors: [ErrFull],
	// [ErrPacketTooLarge], [ErrUnknownStream], [ErrPriority], [ErrKey], [ErrSessionLostPolicy]. If
	// Enqueue has to wait and ctx ends, it returns the cause of ctx.
	Enqueue(ctx context.Context, m *Message) (Ticket, error)
	// Wait returns nil when the message of the ticket is durable under the sync policy. Concurrent
	// callers share one write and one sync. If ctx ends first, Wait returns the cause of ctx, and
	// the store still writes the message. A [Log] returns a *[StalledError] after
	// Options.WriteTimeout.
	//
	// After any other error, it is unknown whether the message is stored. The next opening shows
	// whether the message exists. If the error matches [ErrDegraded], this is known as soon as the
	// disk accepts writes again.
	Wait(ctx context.Context, t Ticket) error
	// Next sets e to the first message after c that is durable, pending and not deferred. It
	// returns false if there is no such message. Messages of a higher priority come first. Within a
	// priority, the order is by sequence. e.Packet is valid until the next call with the same e.
	// Error: *[ReadError].
	Next(c *Cursor, e *Entry) (bool, error)
	// Get sets e to the message with this sequence, and reports whether the message is pending.
	// Error: *[ReadError].
	Get(seq uint64, e *Entry) (bool, error)
	// First returns the Number of the first message of a priority that is pending and not deferred.
	// It returns 0 if there is no such message.
	First(p Priority) uint64
	// LastSeq returns the highest sequence that the store has ever assigned, or 0 if it has
	// assigned none.
	LastSeq() uint64
	// SetSent sets the sent watermark of a priority to a Number, and returns when the watermark is
	// durable. Messages up to the watermark may have been sent, so the store does not drop them to
	// make room. It may drop messages above the watermark. The caller must therefore call Get
	// before it sends a message that it has read earlier, to check that the message is still
	// pending.
	//
	// SetSent can also lower the watermark. A caller should do this before it ends, if it knows the
	// highest Number that it has sent. Errors: [ErrPriority], and [ErrUnknownSequence] for a Number
	// above 1<<62.
	SetSent(p Priority, number uint64) error
	// Sent returns the sent watermark of a priority in this session. It returns 0 if no watermark
	// was set.
	Sent(p Priority) uint64
	// Release records that the server has received a QoS 2 message, which means that the server has
	// sent PUBREC. After that, the sender sends PUBREL for the message and not the message itself
	// [MQTT-4.3.3-6]. The next call of Next returns the message as released. The record is durable
	// after the next Sync.
	Release(seq uint64) error
	// Released returns the pending messages that were released in this session. It includes
	// messages that earlier processes released. The order is that of the calls of Release, because
	// the client must resend PUBREL packets in the order in which it received the PUBRECs
	// [MQTT-4.6.0-4].
	Released() []Position
	// Defer marks a pending message as deferred, which means that the sender must not send it now.
	// If the message is already deferred, Defer replaces its deferral. Next does not return a
	// deferred message. Defer has no effect on a message that was released or has ended. The record
	// is durable after the next Sync. Errors: [ErrDeferral], [ErrUnknownSequence].
	Defer(seq uint64, d Deferral) error
	// Deferred returns the deferred messages by ascending sequence. It includes released messages.
	Deferred() []Deferred
	// Done records the result of a message and removes the message from the outbox. Only the first
	// call for a sequence has an effect. The record needs no sync. If the record is lost, the
	// client sends the message again, which MQTT allows. Errors: [ErrUnknownResult],
	// [ErrUnknownSequence].
	Done(seq uint64, r Result) error
}

// SessionState is the state of the MQTT session, apart from the outbox.
type SessionState interface {
	// Seen records that an inbound QoS 2 message with this packet identifier was handled. It
	// replaces an earlier record for the same packet identifier. The record is durable after the
	// next Sync. Error: [ErrPacketID] for the identifier 0.
	Seen(id uint16, fingerprint uint64) error
	// Cleared removes the record of Seen for a packet identifier. The client calls it when it has
	// received PUBREL, or when the server uses the identifier for another message. The removal is
	// durable after the next Sync. Error: [ErrPacketID] for the identifier 0.
	Cleared(id uint16) error
	// SeenIDs returns a new map. Its keys are the packet identifiers that were recorded with Seen
	// and not removed with Cleared. Its values are the fingerprints of the messages. The value 0
	// means that an earlier release has recorded no fingerprint. A real fingerprint is never 0.
	SeenIDs() map[uint16]uint64
	// FingerprintKey returns the key with which the client computes the fingerprints of messages.
	// The store generates the key once at random. It makes the key durable before it returns the
	// key. If a store has lost its key, SeenIDs returns 0 for the fingerprints that were made with
	// that key. A copy of a store may keep the key.
	FingerprintKey() [16]byte
	// ResetSession records that the server has begun a new session for this ClientID. The ClientID
	// is empty if it is unknown. All releases, seen packet identifiers and sent watermarks become
	// invalid. Messages stay pending. ResetSession returns when all records up to this one are
	// durable. Error: [ErrClientID].
	ResetSession(clientID string) error
	// Session returns the ClientID of the last ResetSession [MQTT-3.1.3-2]. The ClientID is empty
	// if it is unknown. known reports whether ResetSession was ever called. If it was not, the
	// server may have a session about which the store has no information.
	Session() (clientID string, known bool)
	// Sync returns nil when all earlier records are durable under the sync policy. Concurrent
	// callers share one sync.
	Sync() error
}

// Streams keeps named sequences. Each named sequence numbers the messages of one topic.
type Streams interface {
	// Stream returns the ID of a named sequence, and the highest StreamSeq that the store has for
	// it. That number is 0 for an empty sequence. Stream registers a name that is new.
	// Limits.MaxStreams bounds the number of names. Errors: [ErrFull], [ErrStreamName].
	Stream(name string) (id uint32, last uint64, err error)
	// Epoch returns the epoch of the sequence numbers of this store. It is usually the time at
	// which the epoch began, in Unix milliseconds. The epoch does not change while the store is
	// open.
	//
	// A receiver assumes that a number identifies one message of an epoch. Suppose that a store
	// assigns a number twice in one epoch. The receiver then handles the second message out of
	// order. If the second message has no message ID, the receiver drops it. An opening must
	// therefore begin a higher epoch in two cases:
	//
	//   - A power failure or damage may have removed the last number of a stream.
	//   - The store is a copy of another store.
	//
	// [Log] does this by itself, see [Renewal]. A custom store that syncs its commits, as Wait
	// requires, must begin a new epoch in one case: if it is a copy. A copy must also forget its
	// session. A store whose data is lost when the process ends must begin a new epoch whenever it
	// is created. [NextEpoch] returns a suitable epoch, even if the clock was never set.
	Epoch() uint64
}

// Receipts is the optional part of a [Store] that finds messages by their ID. It also finds
// messages that have ended.
type Receipts interface {
	// Receipt returns the state or the result of the newest message with this ID. It returns false
	// if the ID is unknown. A pending message is always found. A message that has ended is found
	// only if Retention.MaxReceipts is set.
	Receipt(id [16]byte) (Receipt, bool, error)
}

// DeadLetters is the optional part of a [Store] that keeps dead letters.
type DeadLetters interface {
	// DeadLetters calls yield for each dead letter, by ascending sequence, until yield returns false.
	// yield may call the store.
	DeadLetters(yield func(e *Entry, reason byte) bool) error
	// Discard removes a dead letter. The record of the removal needs no sync.
	Discard(seq uint64) error
}

// Append enqueues a message and waits until the message is durable. The caller cannot cancel it.
func Append(s Outbox, m *Message) (seq uint64, err error) {
	t, err := s.Enqueue(context.Background(), m)
	if err == nil {
		err = s.Wait(context.Background(), t)
	}
	return t.Seq, err
}
