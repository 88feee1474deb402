package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/ledger"

// Stats are the counters of a store. The following holds at any moment and across restarts:
//
//	Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending
//
// Counters after Receipts start at zero when the store is opened, except Degraded.
type Stats struct {
	Accepted     uint64 // messages that were assigned a sequence, since the store was created
	Acked        uint64 // accepted messages with the result Acked
	Refused      uint64 // accepted messages with the result Refused
	Expired      uint64 // accepted messages with the result Expired
	Dropped      uint64 // accepted messages with the result Dropped, including Lost
	Lost         uint64 // dropped messages that were lost to corruption
	DeadLettered uint64 // accepted messages with the result DeadLettered, including those discarded since
	Pending      uint64 // accepted messages without a result

	PendingOf    [Priorities]uint64 // Pending, by priority
	PendingBytes int64              // packet bytes of the pending messages

	Deferred      uint64             // pending messages that are deferred
	DeferredOf    [Priorities]uint64 // Deferred, by priority
	DeferredBytes int64              // packet bytes of the deferred messages

	DeadLetters uint64 // dead letters in the store
	// DeadLettersDropped counts the dead letters that MaxDeadLetters discarded since the store was
	// opened.
	DeadLettersDropped uint64
	DiskBytes          int64  // bytes of the segments in use
	Segments           int    // segments in use
	Receipts           uint64 // stored receipts of messages whose segment was removed

	AcceptedBytes uint64 // packet bytes accepted
	BytesWritten  uint64 // bytes written to files, including preallocation, moved messages and receipts
	PageBytes     uint64 // bytes of the synced 4 KiB pages: a measure of flash wear
	Syncs         uint64 // fsyncs of files
	DroppedOldest uint64 // messages dropped by DropOldest
	DroppedNewest uint64 // messages refused by DropNewest
	Conflated     uint64 // messages dropped because a newer message with the same key replaced them
	ReceiptsLost  uint64 // receipts that could not be written when their segment was removed
	Moved         uint64 // messages moved to a newer segment, to remove an old one
	Outages       uint64 // times that a write and the second attempt in a new file failed
	Degraded      bool   // the disk refuses writes, and no message is accepted
	TornTails     uint64 // unfinished writes removed when the store was opened
	Corruptions   uint64 // damaged places found
}

// Ended adds n to the counter of messages that ended as kind.
func (s *Stats) Ended(kind ResultKind, n uint64) {
	if kind.Valid() {
		*[...]*uint64{Acked: &s.Acked, Refused: &s.Refused, Expired: &s.Expired, Dropped: &s.Dropped, DeadLettered: &s.DeadLettered}[kind] += n
	}
}

// count assigns the counters that survive restarts.
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
