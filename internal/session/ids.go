package session

// Packet identifiers 1 to lowest-1 belong to SUBSCRIBE, UNSUBSCRIBE and unstored messages,
// those above to the log. Each priority has a range, so that it never waits for a lower one.
const lowest = Lowest

// Lowest is the lowest packet identifier of a stored message.
const Lowest = 257

// ranges are the identifiers of each priority, by its number in the store: Normal,
// High, Urgent. Those of Normal never change: messages in a log must keep theirs.
var ranges = [...]struct{ first, count uint16 }{{1025, 64_511}, {257, 384}, {641, 384}}

// PacketID is the packet identifier of the message with this number among those of its
// priority, so a restarted process resends under the original one [MQTT-4.4.0-1].
func PacketID(priority uint8, number uint64) uint16 {
	r := &ranges[priority]
	return r.first + uint16(number%uint64(r.count))
}

// Lap is the number of messages of a priority after which their identifiers repeat.
func Lap(priority uint8) uint64 { return uint64(ranges[priority].count) }

// Recent is how many of the last packet identifiers of Normal a deferred message may get.
const Recent = 1024

// lowIDs hands out the identifiers below lowest, round robin: none is reused at once.
type lowIDs struct {
	used [lowest]bool
	last uint16
}

func (l *lowIDs) take() (uint16, bool) {
	for range lowest - 1 {
		l.last = l.last%(lowest-1) + 1
		if !l.used[l.last] {
			l.used[l.last] = true
			return l.last, true
		}
	}
	return 0, false
}

func (l *lowIDs) free(id uint16) { l.used[id] = false }
