// Package ledger keeps the small state of a store: counters, named sequences, packet identifiers,
// releases and dead letters. A checkpoint in the log encodes a part of it. The rest comes from the
// records of the messages. A Ledger is in memory only. The caller guards it with a lock.
package ledger

import (
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Ledger is the state of a store, apart from the locations of its messages.
type Ledger struct {
	Epoch, Boot  uint64
	Next         uint64 // sequence of the next message
	Totals       [record.LastResult + 1]uint64
	Lost         uint64 // the part of Totals[Dropped] that was lost
	Session      bool   // a session was begun with this store
	Owner        string // ClientID of that session; empty: unknown
	SentLost     bool   // sent messages may be missing, and nothing was sent since
	Damage       uint32 // hash of the damaged places that the opening found; 0: no damage
	Pending      int
	PendingOf    [record.Priorities]int
	PendingBytes int64
	Numbers      [record.Priorities]uint64 // the last assigned Number; unused for Normal
	Sent         [record.Priorities]uint64 // the sent watermarks
	Latest       int64                     // the latest time that an earlier opening recorded; 0: unknown
	Writer       Writer
	Key          [16]byte // key of the fingerprints in Seen; zero: there is no key yet
	Streams      []Stream // stream i has the ID i+1
	streamID     map[string]uint32

	DeadLetters DeadLetters
	Releases    Releases
	Deferrals   Deferrals
	Seen        Seen
	Keys        Keys
	Clock       Clock
}

// Writer describes the process that writes to the log. A later opening uses this description to
// detect copies of the folder. It also uses it to determine whether a power failure may have
// removed the end of the log.
type Writer struct {
	Known   bool   // false: format versions before 3 did not record it
	Lossy   bool   // the sync policy allows a power failure to remove the last records
	Closed  bool   // the log was closed: nothing was written after this checkpoint
	Boot    uint64 // of the system, see fsys.Host; 0: unknown
	Machine uint64 // see fsys.Host; 0: unknown
}

// Stream is a named sequence.
type Stream struct {
	Name string
	Last uint64
}

// Accepted returns how many messages were accepted. That is also the last assigned sequence.
func (g *Ledger) Accepted() uint64 { return g.Next - 1 }

// Has reports whether a sequence was assigned to a message.
func (g *Ledger) Has(seq uint64) bool { return seq != 0 && seq < g.Next }

// Accept counts a message and returns its sequence and its Number.
func (g *Ledger) Accept(priority uint8, size int, stream uint32, streamSeq uint64) (seq, number uint64) {
	seq, number = g.Next, g.Next
	g.Next++
	g.Pend(priority, size)
	if priority != record.Normal {
		g.Numbers[priority]++
		number = g.Numbers[priority]
	}
	if stream != 0 {
		s := &g.Streams[stream-1]
		s.Last = max(s.Last, streamSeq)
	}
	return seq, number
}

// Pend counts another pending message.
func (g *Ledger) Pend(priority uint8, size int) {
	g.Pending++
	g.PendingOf[priority]++
	g.PendingBytes += int64(size)
}

// Settle counts the result of a pending message.
func (g *Ledger) Settle(priority, kind uint8, size int) {
	g.Totals[kind]++
	g.Pending--
	g.PendingOf[priority]--
	g.PendingBytes -= int64(size)
}

// Live returns the size that the log would have without the ended messages.
func (g *Ledger) Live() int64 {
	return g.PendingBytes + g.DeadLetters.Bytes + int64(g.Pending+len(g.DeadLetters.List))*record.Overhead
}

// Reset begins a new session.
func (g *Ledger) Reset(clientID string) {
	clear(g.Seen)
	g.Deferrals.Reset()
	g.Releases.list, g.Releases.live = nil, 0
	g.Session, g.Owner, g.SentLost = true, clientID, false
	g.Sent = [record.Priorities]uint64{}
}

// Stream returns the ID of a name, if it is registered.
func (g *Ledger) Stream(name string) (id uint32, ok bool) {
	id, ok = g.streamID[name]
	return id, ok
}

// AddStream registers a name.
func (g *Ledger) AddStream(name string, last uint64) uint32 {
	if g.streamID == nil {
		g.streamID = make(map[string]uint32)
	}
	g.Streams = append(g.Streams, Stream{name, last})
	id := uint32(len(g.Streams))
	g.streamID[name] = id
	return id
}

// Restore replaces the counters with those of a checkpoint at this place in the log. It keeps the
// values that are counted from the records of messages.
func (g *Ledger) Restore(c Ledger, version1 bool) {
	c.Next = max(c.Next, g.Next)
	c.Pending, c.PendingOf, c.PendingBytes = g.Pending, g.PendingOf, g.PendingBytes
	c.DeadLetters, c.Keys, c.Releases, c.Deferrals = g.DeadLetters, g.Keys, g.Releases, g.Deferrals
	c.Latest = max(c.Latest, g.Latest)
	if version1 {
		c.Numbers, c.Sent = g.Numbers, g.Sent
	}
	if c.Epoch == 0 {
		c.Epoch = g.Epoch
	}
	*g = c
}

// Reconcile makes the totals consistent after damage. It returns the number of accepted messages
// that cannot be found and are therefore lost. If the record of a result is lost, the message is
// pending again.
func (g *Ledger) Reconcile() (lost uint64) {
	sum := uint64(g.Pending)
	for _, n := range g.Totals {
		sum += n
	}
	if sum < g.Accepted() {
		lost = g.Accepted() - sum
		g.Totals[record.Dropped] += lost
		g.Lost += lost
	} else {
		over := sum - g.Accepted()
		for k, total := range g.Totals {
			n := min(over, total)
			g.Totals[k] -= n
			over -= n
		}
	}
	g.Lost = min(g.Lost, g.Totals[record.Dropped])
	return lost
}
