package session

// Packet identifiers 1 to lowest-1 are for SUBSCRIBE, UNSUBSCRIBE and unstored messages. Higher
// identifiers are for stored messages. Each priority has its own range, so that it never waits for
// a lower one.
const lowest = Lowest

// Lowest is the lowest packet identifier of a stored message.
const Lowest = 257

// ranges holds the identifiers of each priority, by its number in the store: Normal, High, Urgent.
// The range of Normal must never change, because messages in a log keep their identifiers.
var ranges = [...]struct{ first, count uint16 }{{1025, 64_511}, {257, 384}, {641, 384}}

// PacketID returns the packet identifier of the message with this number within its priority. It
// depends only on the number, so a restarted process resends under the original identifier
// [MQTT-4.4.0-1].
func PacketID(priority uint8, number uint64) uint16 {
	r := &ranges[priority]
	return r.first + uint16(number%uint64(r.count))
}

// Lap is the number of messages of a priority after which packet identifiers repeat.
func Lap(priority uint8) uint64 { return uint64(ranges[priority].count) }

// Recent is the number of packet identifiers of Normal, counted back from the oldest pending message,
// from which a deferred message gets its identifier.
const Recent = 1024

// lowIDs assigns the identifiers below lowest in rotation, so that none is reused at once.
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
