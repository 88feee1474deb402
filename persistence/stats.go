package persistence

// Stats are a store's counters. For the messages,
//
//	Accepted = Acked + Refused + Expired + Dropped + Pending
//
// holds at any moment and across restarts. The other counters begin at zero
// when the store is opened.
type Stats struct {
	Accepted uint64 // messages that got a sequence, since the store was created
	Acked    uint64 // of these, ended as Acked
	Refused  uint64 // of these, ended as Refused
	Expired  uint64 // of these, ended as Expired
	Dropped  uint64 // of these, ended as Dropped, Lost included
	Lost     uint64 // of Dropped, those that corruption took
	Pending  uint64 // of these, without an outcome yet

	PendingBytes int64  // packet bytes of the pending messages
	DiskBytes    int64  // bytes of the segments in use
	BytesWritten uint64 // bytes written to segments
	Syncs        uint64 // fsyncs of segments
	Segments     int    // segments in use
	TornTails    uint64 // unfinished writes cut off when the store was opened
	Corruptions  uint64 // damaged places found
}
