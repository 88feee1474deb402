package persistence

import "github.com/mooring-mqtt/mooring/persistence/internal/ledger"

// Stats contains the counters of a store. This equation is true at any moment, and also after
// restarts:
//
//	Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending
//
// The fields from Accepted to DeadLettered count since the store was created. The fields after
// Receipts count since the store was opened. Degraded is not a counter.
type Stats struct {
	Accepted     uint64 // messages to which the store assigned a sequence number
	Acked        uint64 // accepted messages with the result Acked
	Refused      uint64 // accepted messages with the result Refused
	Expired      uint64 // accepted messages with the result Expired
	Dropped      uint64 // accepted messages with the result Dropped, including Lost
	Lost         uint64 // dropped messages that were lost to corruption
	DeadLettered uint64 // accepted messages with the result DeadLettered, including discarded ones
	Pending      uint64 // accepted messages without a result

	PendingOf    [Priorities]uint64 // pending messages by priority
	PendingBytes int64              // packet bytes of all pending messages

	Deferred      uint64             // pending messages that are deferred
	DeferredOf    [Priorities]uint64 // pending messages that are deferred, by priority
	DeferredBytes int64              // packet bytes of all deferred messages

	DeadLetters uint64 // dead letters that are in the store now
	// DeadLettersDropped counts the dead letters that were discarded because of MaxDeadLetters,
	// since the store was opened.
	DeadLettersDropped uint64
	// DiskBytes is the size of the segments in use, of the receipts and of the file RESERVE. It
	// does not include preallocated zeros.
	DiskBytes int64
	Segments  int    // number of segments in use
	Receipts  uint64 // stored receipts, which are written when the segment of a message is removed

	AcceptedBytes uint64 // packet bytes of the accepted messages
	BytesWritten  uint64 // bytes written to files, including preallocation, moved messages and receipts
	PageBytes     uint64 // bytes of the 4 KiB pages that were synced, a measure of flash wear
	Syncs         uint64 // number of fsyncs of files
	DroppedOldest uint64 // messages that the policy DropOldest dropped
	DroppedNewest uint64 // messages that the policy DropNewest refused
	Conflated     uint64 // messages that were dropped because a newer message with the same key replaced them
	ReceiptsLost  uint64 // receipts that could not be written when their segment was removed
	Moved         uint64 // messages that were moved to a newer segment, so that an old segment could be removed
	Outages       uint64 // how many times a write failed twice: in the current file and then in a new file
	Degraded      bool   // the disk refuses writes, and the store accepts no messages
	TornTails     uint64 // unfinished writes that were removed when the store was opened
	Corruptions   uint64 // damaged places that were found
}

// Ended adds n to the counter of the messages that ended with this kind of result.
func (s *Stats) Ended(kind ResultKind, n uint64) {
	if kind.Valid() {
		*[...]*uint64{Acked: &s.Acked, Refused: &s.Refused, Expired: &s.Expired, Dropped: &s.Dropped, DeadLettered: &s.DeadLettered}[kind] += n
	}
}

// count sets the counters that survive restarts from the values in the ledger.
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
