package persistence

import (
	"fmt"
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Message is a message that Enqueue stores.
type Message struct {
	ID       [16]byte  // message ID, the bytes of a UUID
	Accepted time.Time // time of acceptance, with a precision of 1 ms; zero means Store.Now
	// Expires is the time of expiry, with a precision of 1 ms. If it is zero, the message never
	// expires, unless Limits.MaxAge is set.
	Expires   time.Time
	Priority  Priority
	Stream    uint32 // ID of the named sequence, from Store.Stream; 0 if the message is in no sequence
	StreamSeq uint64 // sequence number within the named sequence
	// Key lets the message replace an older unsent message with the same key. Key has at most 1,024
	// bytes and is usually the topic. If Key is empty, the message replaces no other message. A
	// custom store may ignore Key.
	Key string
	// OnSessionLost selects what the sender does with the message if the session is lost. The store
	// keeps the value, but does not use it.
	OnSessionLost SessionLostPolicy
	Packet        []byte // the encoded PUBLISH packet; the store does not interpret it
}

// Entry is a stored message.
type Entry struct {
	Seq uint64
	// Number is the position of the message within its priority. For the priority Normal, Number
	// equals Seq. For the other priorities, Number is 1, 2, 3 and so on.
	Number        uint64
	Priority      Priority
	ID            [16]byte
	Accepted      time.Time
	Expires       time.Time // time of expiry; zero means never
	Released      bool      // the server has sent PUBREC: the sender must send PUBREL, not the message
	OnSessionLost SessionLostPolicy
	Deferral      Deferral // zero if the message is not deferred
	// Packet is the encoded PUBLISH packet. The store overwrites it when this Entry is next passed
	// to the store.
	Packet []byte
}

// Position identifies a message and its position among the messages of the same priority.
type Position struct {
	Seq      uint64
	Number   uint64 // the Number of the Entry; only meaningful if PacketID is 0
	Priority Priority
	PacketID uint16 // the Deferral.PacketID of the message
}

// Position returns the position of a message.
func (e *Entry) Position() Position {
	return Position{Seq: e.Seq, Number: e.Number, Priority: e.Priority, PacketID: e.Deferral.PacketID}
}

// Deferral describes why a message is not sent now, and until when. The zero value means that the
// message is not deferred. A deferred message is pending, but Next does not return it, even after
// the time Until. The sender must therefore keep a list of its deferred messages.
type Deferral struct {
	Since    time.Time // time at which the message was first deferred, with a precision of 1 ms
	Until    time.Time // the message is not sent before this time, with a precision of 1 ms
	Attempts int       // how many times the server refused the message; at most 1<<32-1
	Code     byte      // the reason code of the last refusal; 0 if unknown
	Alone    bool      // sending the message may end the connection, so the sender sends it alone
	// GivenUp means that the message is not sent again. The message ends when the server has
	// answered the PUBREL for PacketID.
	GivenUp bool
	// PacketID is the packet identifier with which the message may have been sent in this session.
	// 0 means that the message was not sent. ResetSession invalidates PacketID.
	PacketID uint16
	// RefusedID is the packet identifier that the server refused as already in use (0x91). The
	// sender does not use this identifier for the message again. 0 means that no identifier was
	// refused.
	RefusedID uint16
}

// Valid reports whether Since is set and Attempts is in its valid range.
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

// Priority decides which messages Next returns first. Messages of the same priority stay in order.
type Priority uint8

// The priorities of messages. Priorities is the number of priorities.
const (
	Normal Priority = iota
	High
	Urgent
	Priorities = 3
)

// String returns the name of the priority: Normal, High or Urgent.
func (p Priority) String() string {
	if p >= Priorities {
		return fmt.Sprintf("Priority(%d)", uint8(p))
	}
	return [...]string{"Normal", "High", "Urgent"}[p]
}

// SessionLostPolicy selects what happens to a sent but unacknowledged message when its session is
// lost.
type SessionLostPolicy uint8

// The policies for messages of a lost session.
const (
	AsConfigured SessionLostPolicy = iota // use the default of the sender
	// Republish means that the message is sent again in the next session. The message may arrive
	// twice.
	Republish
	// FailInFlight means that the message ends with the result Dropped. The message arrives at most
	// once.
	FailInFlight
)

// Cursor is a position in the outbox. For each priority, it contains the sequence of the last
// message that was passed.
type Cursor [Priorities]uint64

// Pass moves the cursor past e.
func (c *Cursor) Pass(e *Entry) { c[e.Priority] = e.Seq }

// Ticket identifies an enqueued message. The message may not be durable yet.
type Ticket struct {
	Seq   uint64 // the sequence of the message
	Drops []Drop // the messages that were dropped to make room for the new message, in order
	// Limit is the name of the limit for which DropOldest dropped messages, such as MaxDiskBytes. A
	// custom store may leave it empty.
	Limit string
	// Replaced is the sequence of an older message with the same key that may already have been
	// sent. That message stays in the store. If it was not sent, the sender may end it with the
	// result Dropped. 0 means that there is no such message.
	Replaced uint64
	batch    uint64 // the commit that writes it
}

// Drop is a message that a policy dropped.
type Drop struct {
	Seq      uint64
	Cause    DropCause
	Priority Priority
}

// DropCause is the reason why a message was dropped.
type DropCause uint8

// The reasons why Enqueue drops an older message.
const (
	DroppedOldest DropCause = iota // the message was dropped to make room for a newer message
	Conflated                      // a newer message with the same key replaced it
)

// Result is the final state of a message.
type Result struct {
	Kind   ResultKind // 0 if the message is pending
	Reason byte       // MQTT reason code from the server; 0 if the server sent none
}

// ResultKind is the way in which a message ended. [Stats] has a counter for each kind.
type ResultKind uint8

// The kinds of results. 0 is not a result.
const (
	Acked        ResultKind = 1 + iota // the server acknowledged the message
	Refused                            // the server refused the message with a reason code of 0x80 or above
	Expired                            // the message expired before it was sent
	Dropped                            // a limit or the application dropped the message, or corruption destroyed it
	DeadLettered                       // the server does not accept the message, and the store keeps it as a dead letter
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

// Receipt contains the state of a pending message, or the result of an ended message.
type Receipt struct {
	Seq    uint64
	Result Result
	At     time.Time // time of the result, by the store's clock; zero while the message is pending

	Deferral Deferral // zero unless the message is pending and deferred
}
