package ledger

import (
	"maps"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Deferrals are the deferred messages.
type Deferrals struct {
	list  map[uint64]record.Deferral // by sequence
	Of    [record.Priorities]int     // number of messages, by priority
	Bytes int64                      // packet bytes
}

// Set sets the deferral of a message.
func (d *Deferrals) Set(seq uint64, priority uint8, size int, x record.Deferral) {
	if _, again := d.list[seq]; !again {
		d.Of[priority]++
		d.Bytes += int64(size)
	}
	if d.list == nil {
		d.list = map[uint64]record.Deferral{}
	}
	d.list[seq] = x
}

// Remove removes a message that has ended, if it is deferred.
func (d *Deferrals) Remove(seq uint64, priority uint8, size int) {
	if _, known := d.list[seq]; known {
		delete(d.list, seq)
		d.Of[priority]--
		d.Bytes -= int64(size)
	}
}

// Get returns the deferral of a message.
func (d *Deferrals) Get(seq uint64) record.Deferral { return d.list[seq] }

// Len returns the number of deferred messages.
func (d *Deferrals) Len() int { return len(d.list) }

// List returns the sequences of the deferred messages, ascending.
func (d *Deferrals) List() []uint64 { return slices.Sorted(maps.Keys(d.list)) }

// Reset records that no deferred message was sent in the current session.
func (d *Deferrals) Reset() {
	for seq, x := range d.list {
		if x.PacketID != 0 {
			x.PacketID = 0
			d.list[seq] = x
		}
	}
}
