package persistence

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Message is a message to be stored.
type Message struct {
	ID        [16]byte  // message ID (the bytes of a UUID)
	Accepted  time.Time // time of acceptance, in milliseconds; zero: Now
	Expires   time.Time // time of expiry, in milliseconds; zero: never, or by Limits.MaxAge
	Priority  Priority
	Stream    uint32 // the named sequence, from Store.Stream; 0: none
	StreamSeq uint64 // its number within Stream
	// Key, if not empty, lets the message replace an older unsent one with the same
	// key, up to 1,024 bytes, usually the topic. A custom store may ignore it.
	Key string
	// OnSessionLost is kept for the sender. The store does not act on it.
	OnSessionLost SessionLostPolicy
	Packet        []byte // wire image of the PUBLISH packet; opaque to the store
}

// Entry is a stored message.
type Entry struct {
	Seq           uint64
	Number        uint64 // position within its priority: Seq for Normal, otherwise 1, 2, 3…
	Priority      Priority
	ID            [16]byte
	Accepted      time.Time
	Expires       time.Time // zero: never
	Released      bool      // PUBREC was received: send PUBREL, not the message
	OnSessionLost SessionLostPolicy
	Deferral      Deferral // zero: it is not deferred
	Packet        []byte   // wire image; reused by the next call with this Entry
}

// Position identifies a message and its position within its priority.
type Position struct {
	Seq      uint64
	Number   uint64 // as in Entry; only if PacketID is 0
	Priority Priority
	PacketID uint16 // of its Deferral; 0: it has none
}

// Position returns the position of a message.
func (e *Entry) Position() Position {
	return Position{Seq: e.Seq, Number: e.Number, Priority: e.Priority, PacketID: e.Deferral.PacketID}
}

// Deferral is why and until when a message is not sent. The zero value is none: Since is set in all
// others. A deferred message is pending, but Next leaves it out, and it never returns to the order:
// its sender keeps a list of its own.
type Deferral struct {
	Since    time.Time // when it was first deferred, in milliseconds
	Until    time.Time // not before this time, in milliseconds
	Attempts int       // how often it was refused: up to 1<<32-1
	Code     byte      // the last reason code; 0: none
	Alone    bool      // connections end over it, so it is sent alone
	GivenUp  bool      // it is not sent again: it ends when the server has answered PUBREL for PacketID
	PacketID uint16    // under which it may have been sent in this session; 0: none. ResetSession voids it.
	// RefusedID is the packet identifier under which the server refused it because that is in use
	// (0x91). The message is not sent under it again. 0: there is none.
	RefusedID uint16
}

// Valid reports whether Since is set and Attempts is in its range.
func (d Deferral) Valid() bool {
	return !d.Since.IsZero() && d.Attempts >= 0 && int64(d.Attempts) <= math.MaxUint32
}

// Deferred is a deferred message.
type Deferred struct {
	Seq uint64
	Deferral
}

func deferral(d record.Deferral) Deferral {
	return Deferral{Since: record.Time(d.Since), Until: record.Time(d.Until), Attempts: int(d.Attempts), Code: d.Code, Alone: d.Alone, GivenUp: d.GivenUp, PacketID: d.PacketID, RefusedID: d.RefusedID}
}

// Priority decides which messages Next returns first. Order is kept within each one.
type Priority uint8

// The priorities, and their number.
const (
	Normal Priority = iota
	High
	Urgent
	Priorities = 3
)

// SessionLostPolicy decides what happens to a message that was sent but not
// acknowledged when its session is lost.
type SessionLostPolicy uint8

// The policies.
const (
	AsConfigured SessionLostPolicy = iota // the default of the sender
	Republish                             // it is sent again in the next session; it may arrive twice
	FailInFlight                          // it is Dropped; it arrives at most once
)

// Cursor is a position in the outbox: the last message passed, for each priority.
type Cursor [Priorities]uint64

// Pass moves the cursor past e.
func (c *Cursor) Pass(e *Entry) { c[e.Priority] = e.Seq }

// Ticket identifies a message that was enqueued and may not be durable yet.
type Ticket struct {
	Seq   uint64 // the message's sequence
	Drops []Drop // the messages that were dropped for it, in this order
	// Replaced is an older message with the same key that stays, because it may have been sent; 0: there is
	// none. A sender that has not sent it may end it as Dropped.
	Replaced uint64
	batch    uint64 // the commit that writes it
}

// Drop is a message that a policy dropped.
type Drop struct {
	Seq   uint64
	Cause DropCause
}

// DropCause is the policy that dropped a message.
type DropCause uint8

// The causes.
const (
	DroppedOldest DropCause = iota // to make room for a newer message
	Conflated                      // a newer message with the same key replaced it
)

// Result is the final state of a message.
type Result struct {
	Kind   ResultKind // 0: the message is pending
	Reason byte       // MQTT reason code; 0 if there is none
}

// ResultKind is the counter in which a message ends.
type ResultKind uint8

// The results. 0 is not a result.
const (
	Acked        ResultKind = 1 + iota // the server acknowledged it
	Refused                            // the server acknowledged it with a reason code of 0x80 or above
	Expired                            // it expired before it was sent
	Dropped                            // dropped by a limit or by the application, or lost to corruption
	DeadLettered                       // set aside and kept: the server does not accept it
)

var resultNames = [...]string{Acked: "acked", Refused: "refused", Expired: "expired", Dropped: "dropped", DeadLettered: "dead-lettered"}

// Valid reports whether k is one of the constants.
func (k ResultKind) Valid() bool { return record.IsResult(uint8(k)) }

// String returns the name of the result.
func (k ResultKind) String() string {
	if !k.Valid() {
		return "pending"
	}
	return resultNames[k]
}

// Receipt is the state or result of a message.
type Receipt struct {
	Seq    uint64
	Result Result
	At     time.Time // time of the result, by the store's clock; zero while pending

	Deferral Deferral // of a pending message that is deferred; otherwise zero
}
