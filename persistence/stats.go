package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/ledger"

// Stats are a store's counters. For the messages,
//
//	Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending
//
// holds at any moment and across restarts. Counters below DiskBytes begin at zero.
type Stats struct {
	Accepted     uint64 // messages that got a sequence, since the store was created
	Acked        uint64 // of these, ended as Acked
	Refused      uint64 // of these, ended as Refused
	Expired      uint64 // of these, ended as Expired
	Dropped      uint64 // of these, ended as Dropped, Lost included
	Lost         uint64 // of Dropped, those that corruption took
	DeadLettered uint64 // of these, ended as DeadLettered, kept or discarded since
	Pending      uint64 // of these, without an outcome yet

	PendingOf    [Priorities]uint64 // Pending, by priority
	PendingBytes int64              // packet bytes of the pending messages

	Deferred      uint64             // of Pending, those that are deferred
	DeferredOf    [Priorities]uint64 // Deferred, by priority
	DeferredBytes int64              // packet bytes of the deferred messages

	DeadLetters uint64 // dead letters kept
	// DeadLettersDropped counts the dead letters that MaxDeadLetters discarded since the store was opened.
	DeadLettersDropped uint64
	DiskBytes          int64  // bytes of the segments in use
	Segments           int    // segments in use
	Receipts           uint64 // receipts kept of messages whose segment is gone

	AcceptedBytes uint64 // packet bytes accepted
	BytesWritten  uint64 // bytes written to files, zeros ahead, moved messages and receipts included
	PageBytes     uint64 // bytes of the pages of 4 KiB that were synced: what flash wears by
	Syncs         uint64 // fsyncs of files
	DroppedOldest uint64 // dropped by DropOldest
	DroppedNewest uint64 // refused by DropNewest
	Conflated     uint64 // dropped because a newer message with the same key came
	ReceiptsLost  uint64 // receipts that could not be written when their segment went
	Moved         uint64 // messages moved to a newer segment, to give an old one back
	Outages       uint64 // times that the disk refused to take what was written, and the second try too
	Degraded      bool   // it refuses now: no message is accepted
	TornTails     uint64 // unfinished writes cut off when the store was opened
	Corruptions   uint64 // damaged places found
}

// Ended adds n to the counter of messages that ended with this result.
func (s *Stats) Ended(kind ResultKind, n uint64) {
	if kind.Valid() {
		*[...]*uint64{Acked: &s.Acked, Refused: &s.Refused, Expired: &s.Expired, Dropped: &s.Dropped, DeadLettered: &s.DeadLettered}[kind] += n
	}
}

// count sets the counters that are kept across restarts.
func (s *Stats) count(g *ledger.Ledger) {
	s.Accepted, s.Pending, s.PendingBytes = g.Accepted(), uint64(g.Pending), g.PendingBytes
	for k, n := range g.Totals {
		s.Ended(ResultKind(k), n)
	}
	s.Lost = g.Lost
	s.DeadLetters = uint64(len(g.DeadLetters.List))
	s.Deferred, s.DeferredBytes = uint64(g.Deferrals.Len()), g.Deferrals.Bytes
	for p, n := range g.PendingOf {
		s.PendingOf[p], s.DeferredOf[p] = uint64(n), uint64(g.Deferrals.Of[p])
	}
}
