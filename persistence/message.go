package persistence

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Message is a message to be stored.
type Message struct {
	ID       [16]byte  // message ID: the bytes of a UUID
	Accepted time.Time // time of acceptance, with a precision of 1 ms; zero: Store.Now
	// Expires is the time of expiry, with a precision of 1 ms. If it is zero, the message never
	// expires, unless Limits.MaxAge is set.
	Expires   time.Time
	Priority  Priority
	Stream    uint32 // ID of the named sequence, from Store.Stream; 0: not part of one
	StreamSeq uint64 // sequence number within Stream
	// Key lets the message replace an older unsent message with the same key. The key has at most
	// 1,024 bytes and is usually the topic. If it is empty, nothing is replaced. A custom store may
	// ignore it.
	Key string
	// OnSessionLost is stored for the sender. The store does not act on it.
	OnSessionLost SessionLostPolicy
	Packet        []byte // encoded PUBLISH packet; opaque to the store
}

// Entry is a stored message.
type Entry struct {
	Seq           uint64
	Number        uint64 // position within its priority: Seq for Normal, otherwise 1, 2, 3…
	Priority      Priority
	ID            [16]byte
	Accepted      time.Time
	Expires       time.Time // zero: never
	Released      bool      // the server has sent PUBREC: send PUBREL, not the message
	OnSessionLost SessionLostPolicy
	Deferral      Deferral // zero: the message is not deferred
	Packet        []byte   // encoded PUBLISH packet; overwritten when this Entry is next passed to the store
}

// Position identifies a message, and its place among the messages of the same priority.
type Position struct {
	Seq      uint64
	Number   uint64 // as in Entry; only meaningful if PacketID is 0
	Priority Priority
	PacketID uint16 // Deferral.PacketID of the message
}

// Position returns the position of a message.
func (e *Entry) Position() Position {
	return Position{Seq: e.Seq, Number: e.Number, Priority: e.Priority, PacketID: e.Deferral.PacketID}
}

// Deferral describes why and until when a message is not sent. In the zero value, which means not
// deferred, Since is zero. A deferred message is pending, but Next does not return it, even after
// its deferral has ended. The sender keeps its own list of deferred messages.
type Deferral struct {
	Since    time.Time // when the message was first deferred, with a precision of 1 ms
	Until    time.Time // the message is not sent before this time, with a precision of 1 ms
	Attempts int       // how often it was refused: up to 1<<32-1
	Code     byte      // the last reason code; 0: unknown
	Alone    bool      // sending it may end the connection, so it is sent alone
	GivenUp  bool      // not sent again; the message ends when the server answers PUBREL for PacketID
	// PacketID is the packet identifier under which the message may have been sent in this session.
	// 0: it was not sent. ResetSession invalidates it.
	PacketID uint16
	// RefusedID is the packet identifier that the server refused as already in use (0x91). The
	// message is not sent under it again. 0: no identifier was refused.
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

// Priority decides which messages Next returns first. Messages of one priority keep their order.
type Priority uint8

// Priorities is the number of priorities. The other constants are the priorities.
const (
	Normal Priority = iota
	High
	Urgent
	Priorities = 3
)

// SessionLostPolicy selects what happens to a sent but unacknowledged message when its session is
// lost.
type SessionLostPolicy uint8

// The policies for a lost session.
const (
	AsConfigured SessionLostPolicy = iota // the default of the sender
	Republish                             // the message is sent again in the next session; it may arrive twice
	FailInFlight                          // the message ends as Dropped; it arrives at most once
)

// Cursor is a position in the outbox. It holds the last passed sequence of each priority.
type Cursor [Priorities]uint64

// Pass moves the cursor past e.
func (c *Cursor) Pass(e *Entry) { c[e.Priority] = e.Seq }

// Ticket identifies an enqueued message, which may not be durable yet.
type Ticket struct {
	Seq   uint64 // the sequence of the message
	Drops []Drop // the messages that were dropped to make room for it, in order
	// Replaced is the sequence of an older message with the same key. That message stays in the
	// store, because it may already have been sent. If the sender has not sent it, the sender may
	// end it as Dropped. 0: there is no such message.
	Replaced uint64
	batch    uint64 // the commit that writes it
}

// Drop is a message that a policy dropped.
type Drop struct {
	Seq   uint64
	Cause DropCause
}

// DropCause is the reason why a message was dropped.
type DropCause uint8

// The causes of a drop.
const (
	DroppedOldest DropCause = iota // to make room for a newer message
	Conflated                      // a newer message with the same key replaced it
)

// Result is the final state of a message.
type Result struct {
	Kind   ResultKind // 0: the message is pending
	Reason byte       // MQTT reason code; 0 if the server sent none
}

// ResultKind is the way in which a message ended. [Stats] has a counter for each.
type ResultKind uint8

// The results. 0 is not a result.
const (
	Acked        ResultKind = 1 + iota // the server acknowledged it
	Refused                            // the server acknowledged it with a reason code of 0x80 or above
	Expired                            // it expired before it was sent
	Dropped                            // dropped by a limit or by the application, or lost to corruption
	DeadLettered                       // kept as a dead letter, because the server does not accept it
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

// Receipt is the state of a pending message, or the result of an ended one.
type Receipt struct {
	Seq    uint64
	Result Result
	At     time.Time // time of the result, by the store's clock; zero while pending

	Deferral Deferral // zero unless the message is pending and deferred
}
