package session

// Packet identifiers 1 to lowest-1 belong to SUBSCRIBE, UNSUBSCRIBE and direct
// messages; all above belong to the log and follow from its sequence.
const (
	lowest  = 1025
	idCount = 65_535 - lowest + 1
)

// PacketID is the packet identifier of the message with this log sequence. The
// append that accepts a message thus makes its identifier durable, and a
// restarted process resends under the original one [MQTT-4.4.0-1].
func PacketID(seq uint64) uint16 { return uint16(seq%idCount) + lowest }

// Lap is the number of messages after which packet identifiers repeat.
const Lap = idCount

// lowIDs hands out the identifiers below lowest, round robin, so that one is
// not reused at once.
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
