package persistence

import (
	"context"
	"time"
)

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
	// the ticket has returned nil. When a limit is reached, Options.WhenFull says
	// what happens. Errors: [ErrFull], [ErrPacketTooLarge], [ErrUnknownStream],
	// [ErrPriority], [ErrKey], [ErrSessionLostPolicy].
	Enqueue(m *Message) (Ticket, error)
	// Wait returns nil once the ticket's message is durable, in the meaning the
	// sync policy gives to the word. The first of several waiters writes and
	// syncs for all. An error means that the message may or may not be there
	// after the next opening.
	Wait(t Ticket) error
	// Append is Enqueue and Wait.
	Append(m *Message) (seq uint64, err error)

	// Room returns nil once the limits leave room for a packet of that size, or
	// when waiting would not help: try again then. Otherwise its error is that of
	// the context, or what every method returns.
	Room(ctx context.Context, size int) error

	// Next fills e with the first message behind c that is durable and not done,
	// and reports whether there is one: of the highest priority first, and within
	// a priority in order. The storage of e.Packet is used again by the next call
	// with the same e. Error: *[ReadError].
	Next(c *Cursor, e *Entry) (bool, error)
	// Get is Next for the message with this sequence, if it is not done.
	Get(seq uint64, e *Entry) (bool, error)
	// First returns the Number of the first message of a priority that is not
	// done; 0: there is none.
	First(p Priority) uint64
	// MarkSent notes that the messages of a priority up to this Number may have
	// been sent, and is durable on return. A message behind the mark is not
	// dropped to make room for others: the server may know it. Until then it may
	// be, so look again with Get before sending what was read earlier.
	MarkSent(p Priority, number uint64) error
	// UnmarkSent takes marks back: of each priority, no message above this Number
	// was sent, though it may be marked. Lower marks stay as they are. For the
	// end, when it is known what was sent and nothing more will be. It is durable
	// on return; when a crash takes the record, the marks are as before, which errs
	// on the safe side.
	UnmarkSent(sent [Priorities]uint64) error
	// Sent returns what MarkSent noted in this session, by this process or an
	// earlier one, and UnmarkSent did not take back; 0: nothing.
	Sent(p Priority) uint64
	// Release notes that the server has taken over a QoS 2 message (PUBREC):
	// from now on PUBREL is sent for it, never the message [MQTT-4.3.3-6]. Next
	// shows it at once; it is durable after the next Sync.
	Release(seq uint64) error
	// Released returns the messages that were released in this session and are not
	// done, in the order of the calls of Release, by this process or earlier ones:
	// PUBRELs must be sent again in the order of the PUBRECs [MQTT-4.6.0-4].
	Released() []Place
	// Done notes the final outcome of a message and takes it off the outbox. Only
	// the first call for a sequence has an effect. It owes no sync: when the
	// record is lost, the message is sent again, which MQTT allows.
	Done(seq uint64, o Outcome) error
	// Receipt tells what became of the message with this ID, as far as
	// Options.MaxReceipts and ReceiptAge reach. It returns false when nothing is
	// known of it. Of several messages with one ID it tells the newest.
	Receipt(id [16]byte) (Receipt, bool, error)
	// DeadLetters calls yield for each message that ended as DeadLettered and is
	// still kept, in order, until it returns false. yield may call the store.
	DeadLetters(yield func(e *Entry, reason byte) bool) error
	// Discard gives up a dead letter. It owes no sync.
	Discard(seq uint64) error

	// Seen notes the packet identifier of an inbound QoS 2 message before it is
	// answered with PUBREC; it is durable after the next Sync.
	Seen(id uint16) error
	// Cleared notes that PUBREL came for an identifier; durable after the next Sync.
	Cleared(id uint16) error
	// SeenIDs returns the identifiers seen and not cleared, ascending.
	SeenIDs() []uint16
	// ResetSession notes that the server holds no session for us any more: all
	// Released marks, all Seen identifiers and what MarkSent noted are void.
	// Messages stay. From here on the session is one of this ClientID; empty:
	// unknown. It is durable on return, and what was recorded before is never less
	// durable: who gives messages up with their session calls Done first. Error:
	// [ErrClientID].
	ResetSession(clientID string) error
	// HasSession reports whether ResetSession was ever recorded. Every session
	// begins with one, so a store for which it is false knows nothing of a
	// session that the server may hold.
	HasSession() bool
	// SessionClientID returns what the last ResetSession said: whose session it is
	// that the store knows [MQTT-3.1.3-2]. Empty: nobody's, or that of a release
	// that did not note it.
	SessionClientID() string
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
	// Now is the time by the store's clock, which messages are accepted and expire
	// by. It is the system's, but does not step: not while the store is open, not
	// back from one opening to the next, and not forward from a clock that was
	// never set (before the year 2020) while messages are pending.
	Now() time.Time
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
	Accepted  time.Time // when it was accepted; zero: Now. Kept to the millisecond
	Expires   time.Time // when it is of no use any more; zero: never, or Options.MaxAge. Kept to the millisecond
	Priority  Priority  // which messages it overtakes
	Stream    uint32    // the sequence it belongs to, from Store.Stream; 0: none
	StreamSeq uint64    // its number within Stream
	// Key, when it is not empty, lets the message take the place of an older one
	// with the same key that was not sent yet: the older one is Dropped. Up to
	// 1,024 bytes; usually the topic.
	Key string
	// OnSessionLost is for whoever sends the message; the store only keeps it.
	OnSessionLost SessionLostPolicy
	Packet        []byte // wire image of the PUBLISH packet, opaque to the store
}

// Entry is a stored message, as Next returns it.
type Entry struct {
	Seq      uint64
	Number   uint64 // its place among the messages of its priority: for Normal ones Seq, for others 1, 2, 3…
	Priority Priority
	ID       [16]byte
	Accepted time.Time
	Expires  time.Time // zero: never
	Released bool      // PUBREC was seen: send PUBREL, not the message
	// OnSessionLost is as it was stored.
	OnSessionLost SessionLostPolicy
	Packet        []byte // the wire image; used again by the next call of Next
}

// Place is which message it is, and where among those of its priority.
type Place struct {
	Seq      uint64
	Number   uint64 // as in Entry
	Priority Priority
}

// Priority says which messages are handed out first. Order is kept within a
// priority only.
type Priority uint8

// The priorities, and how many there are.
const (
	Normal Priority = iota
	High
	Urgent
	Priorities = 3
)

// SessionLostPolicy says what becomes of a message that was sent and not
// acknowledged, when the session that it was sent in is gone.
type SessionLostPolicy uint8

// The policies.
const (
	AsConfigured SessionLostPolicy = iota // whatever who sends it was told for all messages
	Republish                             // it is sent again, in the next session: it may arrive twice
	FailInFlight                          // it is given up: never twice, perhaps not at all
)

// Cursor is a place in the outbox: for each priority, the sequence up to which
// messages were passed. The zero value is the front.
type Cursor [Priorities]uint64

// Pass moves the cursor behind e.
func (c *Cursor) Pass(e *Entry) { c[e.Priority] = e.Seq }

// Receipt is what became of a message.
type Receipt struct {
	Seq     uint64
	Outcome Outcome   // Kind 0: it is pending
	At      time.Time // when, by the store's clock; zero while it is pending
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
	Acked        OutcomeKind = 1 + iota // the server acknowledged it
	Refused                             // the server acknowledged it with a reason code of 0x80 or above
	Expired                             // it was of no use any more before it could be sent
	Dropped                             // given up: by a limit, by the program, or lost to corruption
	DeadLettered                        // set aside: no server takes it, and it is kept to be looked at
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
	case DeadLettered:
		return "dead-lettered"
	}
	return "no outcome"
}
