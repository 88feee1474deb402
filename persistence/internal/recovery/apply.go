package recovery

import (
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// applier applies the records of one segment to the state. Applying a record twice has no further
// effect, so a record may exist twice.
type applier struct {
	s    *State
	seg  *index.Segment
	room uint64 // how many messages fit into the segment, which bounds how many can be missing
}

func (a applier) apply(off int64, r *record.Record) {
	g := &a.s.Ledger
	g.Writer.Closed = false
	switch r.Kind {
	case record.KindMessage:
		if r.Moved {
			a.move(off, r)
		} else {
			a.message(off, r)
		}
	case record.KindReleased:
		m := a.find(r.Seq)
		switch {
		case m.Is(index.Pending):
			m.Set(index.Released)
		case m.Is(index.Deferred):
			m.Set(index.DeferredReleased)
		default:
			return
		}
		g.Releases.Found(r.Seq, r.Rank)
	case record.KindDeferred:
		if m := a.find(r.Seq); m.Is(index.Pending) || m.Is(index.Deferred) {
			m.Set(index.Deferred)
			g.Deferrals.Set(r.Seq, m.Priority(), int(m.Loc().Size), r.Deferral)
		}
	case record.KindSent:
		g.SentLost = false
		if r.Priority == record.Priorities {
			g.Sent = r.Sent
		} else {
			g.Sent[r.Priority] = max(g.Sent[r.Priority], r.Number)
		}
	case record.KindDone:
		a.done(r)
	case record.KindSeen:
		g.Seen.Add(r.ID, r.Fingerprint)
	case record.KindCleared:
		g.Seen.Remove(r.ID)
	case record.KindReset:
		g.Reset(r.Name)
		a.s.Catalog.Unrelease()
	case record.KindStream:
		if _, known := g.Stream(r.Name); !known && int(r.Stream) == len(g.Streams)+1 {
			g.AddStream(r.Name, 0)
		}
	case record.KindCheckpoint:
		c, _, err := ledger.DecodeCheckpoint(r.Body, r.Version1)
		if a.s.Stale = err != nil; err == nil {
			c.Writer.Closed = c.Writer.Closed && r.Fence
			g.Restore(c, r.Version1)
		}
	}
}

// message adds a message from the record of its acceptance.
func (a applier) message(off int64, r *record.Record) {
	g, seg := &a.s.Ledger, a.seg
	if len(seg.Locs) == 0 && g.Next == 1 && r.Seq > seg.End()+a.room {
		seg.First, g.Next = r.Seq, r.Seq // this is the oldest segment, and its header is damaged
	}
	if r.Seq < g.Next || !a.extend(r.Seq) {
		return
	}
	seg.Add(index.Loc{Off: uint32(off), Size: uint32(len(r.Packet))}, r.Priority, index.Print(&r.MessageID))
	g.Next = r.Seq + 1
	a.pend(r)
	// The record of an unknown stream was in an earlier segment. A later checkpoint contains it.
	if r.Stream > 0 && int(r.Stream) <= len(g.Streams) {
		st := &g.Streams[r.Stream-1]
		st.Last = max(st.Last, r.StreamSeq)
	}
}

// pend counts a pending message.
func (a applier) pend(r *record.Record) {
	g := &a.s.Ledger
	g.Pend(r.Priority, len(r.Packet))
	a.s.Catalog.Enqueue(r.Priority, r.Seq, r.Number)
	if r.Priority != record.Normal {
		g.Numbers[r.Priority] = max(g.Numbers[r.Priority], r.Number)
	}
	if len(r.Key) > 0 && g.Keys.Newest(string(r.Key)) < r.Seq {
		g.Keys.Set(string(r.Key), r.Seq, func(seq uint64) bool { return a.s.Catalog.Committed(seq).Alive() })
	}
}

// move adds a message from a record that was moved. The original segment may still exist.
func (a applier) move(off int64, r *record.Record) {
	g, c, size := &a.s.Ledger, &a.s.Catalog, len(r.Packet)
	known := a.find(r.Seq)
	switch {
	case known.Is(index.Done):
		return
	case known.Alive() && r.Dead: // its done record is damaged
		g.Settle(r.Priority, record.DeadLettered, size)
		g.DeadLetters.Add(r.Seq, size, r.Result.Reason)
	case known.OK() && !known.Is(index.Lost): // counted before
	case r.Dead:
		g.DeadLetters.Add(r.Seq, size, r.Result.Reason)
	default:
		a.pend(r)
	}
	state := uint8(index.Pending)
	switch {
	case r.Dead:
		state = index.Dead
		g.Deferrals.Remove(r.Seq, r.Priority, size)
	case r.Released && r.Deferred:
		state = index.DeferredReleased
	case r.Released:
		state = index.Released
	case r.Deferred:
		state = index.Deferred
	}
	if r.Released && !known.Released() {
		g.Releases.Found(r.Seq, r.Rank)
	}
	if r.Deferred {
		g.Deferrals.Set(r.Seq, r.Priority, size, r.Deferral)
	}
	c.Move(r.Seq, a.seg, index.Loc{Off: uint32(off), Size: uint32(size)}, r.Priority, state)
	m := c.Committed(r.Seq)
	m.SetPrint(index.Print(&r.MessageID))
	if r.Dead {
		m.SetResult(r.Result, r.At)
	}
}

// extend marks the sequences up to, but not including, seq as lost, because their records are
// missing. It returns false if the segment has no room for so many messages.
func (a applier) extend(seq uint64) bool {
	if seq > a.seg.End()+a.room {
		return false
	}
	a.seg.AddLost(seq)
	a.s.Ledger.Next = max(a.s.Ledger.Next, seq)
	return true
}

// find returns a message that a later record refers to.
func (a applier) find(seq uint64) index.Ref {
	if seq >= a.s.Ledger.Next {
		a.extend(seq + 1)
	}
	return a.s.Catalog.Committed(seq)
}

// done counts the result of a message once. It also counts a message from before the oldest segment,
// because its done record came after the checkpoint.
func (a applier) done(r *record.Record) {
	g, m := &a.s.Ledger, a.find(r.Seq)
	g.Latest = max(g.Latest, r.At)
	switch {
	case r.Result.Kind == record.Discarded:
		if m.Is(index.Dead) {
			g.DeadLetters.Remove(r.Seq, int(m.Loc().Size))
			m.Set(index.Done)
		}
	case !m.OK():
		if r.Seq < a.s.Catalog.Segments[0].First {
			g.Totals[r.Result.Kind]++
		}
	case m.Is(index.Lost):
		m.SetResult(r.Result, r.At)
		m.Set(index.Done)
		g.Totals[r.Result.Kind]++
	case m.Alive():
		m.SetResult(r.Result, r.At)
		m.Set(index.Done)
		size := int(m.Loc().Size)
		g.Deferrals.Remove(r.Seq, m.Priority(), size)
		g.Settle(m.Priority(), r.Result.Kind, size)
		if r.Result.Kind == record.DeadLettered && a.s.c.DeadLetters {
			m.Set(index.Dead)
			g.DeadLetters.Add(r.Seq, size, r.Result.Reason)
		}
	}
}
