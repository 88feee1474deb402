package persistence

import "time"

// Store is the outbox and the session state in one: the messages that were
// accepted and not finally acknowledged, in order, and what the MQTT session
// needs to go on after a restart. [Log] keeps it on disk, [Memory] does not;
// both pass persistencetest.Run.
//
// All methods may be called by several goroutines at once. Release, Done, Seen
// and Cleared only append to a buffer and never wait for the disk, so the
// goroutine that reads the network can call them. After Close every method that
// returns an error returns [ErrClosed], and after a failed write [ErrFailed].
type Store interface {
	// Enqueue fixes the message's place in the order and gives it its sequence:
	// 1, 2, 3… without gaps, never used again, across restarts. The packet is
	// copied before Enqueue returns. The message is accepted only when Wait for
	// the ticket has returned nil. Errors: [ErrFull], [ErrPacketTooLarge],
	// [ErrUnknownStream].
	Enqueue(m *Message) (Ticket, error)
	// Wait returns nil once the ticket's message is durable, in the meaning the
	// sync policy gives to the word. The first of several waiters writes and
	// syncs for all. An error means that the message may or may not be there
	// after the next opening.
	Wait(t Ticket) error
	// Append is Enqueue and Wait.
	Append(m *Message) (seq uint64, err error)

	// Next fills e with the first message whose sequence is above after, that is
	// durable and not done, and reports whether there is one. The storage of
	// e.Packet is used again by the next call with the same e. Error: *[ReadError].
	Next(after uint64, e *Entry) (bool, error)
	// Release notes that the server has taken over a QoS 2 message (PUBREC):
	// from now on PUBREL is sent for it, never the message [MQTT-4.3.3-6]. Next
	// shows it at once; it is durable after the next Sync.
	Release(seq uint64) error
	// Done notes the final outcome of a message and takes it off the outbox. Only
	// the first call for a sequence has an effect. It owes no sync: when the
	// record is lost, the message is sent again, which MQTT allows.
	Done(seq uint64, o Outcome) error

	// Seen notes the packet identifier of an inbound QoS 2 message before it is
	// answered with PUBREC; it is durable after the next Sync.
	Seen(id uint16) error
	// Cleared notes that PUBREL came for an identifier; durable after the next Sync.
	Cleared(id uint16) error
	// SeenIDs returns the identifiers seen and not cleared, ascending.
	SeenIDs() []uint16
	// ResetSession notes that the server holds no session for us any more: all
	// Released marks and all Seen identifiers are void. Messages stay. It is
	// durable on return.
	ResetSession() error
	// HasSession reports whether ResetSession was ever recorded. Every session
	// begins with one, so a store for which it is false knows nothing of a
	// session that the server may hold.
	HasSession() bool
	// Sync returns nil once everything recorded before the call is durable, in
	// the meaning the sync policy gives to the word. Callers share the work.
	Sync() error

	// Stream registers a named sequence, or finds it, and returns the highest
	// StreamSeq stored under it (0: none). The number of names is bounded:
	// [ErrFull].
	Stream(name string) (id uint32, last uint64, err error)
	// Streams calls yield for each named sequence, in the order of registering,
	// until it returns false. yield may call the store.
	Streams(yield func(name string, id uint32, last uint64) bool)

	// LastSeq is the highest sequence that was given to a message, by this opening
	// or an earlier one; 0: none yet.
	LastSeq() uint64

	// Epoch is the identity of this store: the time it was created, in Unix
	// milliseconds. A receiver that sees another epoch knows that the publisher
	// lost its counters. A restart keeps the epoch; damage on disk that may have
	// taken a stream's last number renews it when the store is opened.
	Epoch() uint64
	// Boot says how many times this store was opened, this time included.
	Boot() uint64
	// Stats returns counters.
	Stats() Stats
	// Close makes durable what was recorded, whatever the sync policy, and
	// releases the store.
	Close() error
}

// Message is what is to be stored.
type Message struct {
	ID        [16]byte  // message ID (a UUID's bytes)
	Accepted  time.Time // when it was accepted; zero: now. Kept to the millisecond
	Expires   time.Time // when it is of no use any more; zero: never. Kept to the millisecond
	Stream    uint32    // the sequence it belongs to, from Store.Stream; 0: none
	StreamSeq uint64    // its number within Stream
	Packet    []byte    // wire image of the PUBLISH packet, opaque to the store
}

// Entry is a stored message, as Next returns it.
type Entry struct {
	Seq      uint64
	ID       [16]byte
	Accepted time.Time
	Expires  time.Time // zero: never
	Released bool      // PUBREC was seen: send PUBREL, not the message
	Packet   []byte    // the wire image; used again by the next call of Next
}

// Ticket stands for a message that was enqueued and may not be durable yet.
type Ticket struct {
	Seq   uint64 // the message's sequence
	batch uint64 // the commit that carries it
}

// Outcome is the end of a message.
type Outcome struct {
	Kind   OutcomeKind
	Reason byte // MQTT reason code; 0 when none came
}

// OutcomeKind says in which of the totals a message ends.
type OutcomeKind uint8

// The outcomes; 0 is none of them.
const (
	Acked   OutcomeKind = 1 + iota // the server acknowledged it
	Refused                        // the server acknowledged it with a reason code of 0x80 or above
	Expired                        // it was of no use any more before it could be sent
	Dropped                        // given up: by a limit, by the program, or lost to corruption
)

// String returns the outcome's name.
func (k OutcomeKind) String() string {
	switch k {
	case Acked:
		return "acked"
	case Refused:
		return "refused"
	case Expired:
		return "expired"
	case Dropped:
		return "dropped"
	}
	return "no outcome"
}
