package segment

import (
	"bytes"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// TestScanner_PacketFullOfBeginnings checks that the search for the next record after damage takes
// time in proportion to the size of the segment, whatever the payload is.
func TestScanner_PacketFullOfBeginnings(t *testing.T) {
	payload := bytes.Repeat([]byte{0x81, 0x81, 0x81, 0x01, 0x05}, 1<<18/5) // tags of 66,052 bytes, with sequence 5
	first := record.Record{Seq: 1, Message: record.Message{Expires: record.Never, Packet: payload}}
	data := first.AppendMessage(make([]byte, HeaderSize))
	data = record.AppendDone(data, 2, record.Result{Kind: record.Acked}, 0)
	record.Seal(data[HeaderSize:], 1, HeaderSize, false)
	begin, end := int64(bytes.Index(data, payload)), int64(len(data))
	s := Scanner{Window: Window{F: bytes.NewReader(data), Limit: end, Chunk: 1 << 16}, Number: 1, Most: 1000}
	var r record.Record
	at, err := s.resync(begin, &r)
	if err != nil || r.Seq != 2 || at < begin+int64(len(payload)) {
		t.Fatalf("found %+v at %d, %v", r, at, err)
	}
	if s.wasted < maxWasted*end || s.wasted > (maxWasted+1)*end {
		t.Fatalf("%d bytes were checksummed in vain for a segment of %d", s.wasted, end)
	}
}

// TestScanner_Scan checks which part of a damaged segment is read, and whether the rest is damage
// or a torn write.
func TestScanner_Scan(t *testing.T) {
	var data []byte
	var offs []int
	for seq := uint64(1); seq <= 6; seq++ {
		at := len(data)
		offs = append(offs, at)
		data = record.AppendReleased(data, seq, seq)
		record.Seal(data[at:], 9, int64(at), seq == 4)
	}
	whole := len(data)
	flip := func(record int) []byte {
		b := slices.Clone(data)
		b[offs[record]+6] ^= 1
		return b
	}
	for _, c := range []struct {
		name    string
		data    []byte
		sealed  bool
		seqs    []uint64
		damaged int
		torn    bool
		end     int
	}{
		{"whole", data, false, []uint64{1, 2, 3, 4, 5, 6}, 0, false, whole},
		{"zeros at the end", append(slices.Clone(data), make([]byte, 5000)...), false, []uint64{1, 2, 3, 4, 5, 6}, 0, false, whole},
		{"cut off", data[:whole-2], false, []uint64{1, 2, 3, 4, 5}, 0, true, offs[5]},
		{"cut off, sealed", data[:whole-2], true, []uint64{1, 2, 3, 4, 5}, 1, false, whole - 2},
		{"damage before a fence", flip(1), false, []uint64{1, 3, 4, 5, 6}, 1, false, whole},
		{"damage after the last fence", flip(4), false, []uint64{1, 2, 3, 4}, 0, true, offs[4]},
		{"damage, sealed", flip(4), true, []uint64{1, 2, 3, 4, 6}, 1, false, whole},
	} {
		s := Scanner{Window: Window{F: bytes.NewReader(c.data), Limit: int64(len(c.data)), Chunk: 16}, Number: 9}
		var seqs []uint64
		damaged := 0
		end, torn, err := s.Scan(0, c.sealed, func(_ int64, r *record.Record) bool {
			seqs = append(seqs, r.Seq)
			return true
		}, func(off, length int64) { damaged++ })
		if err != nil || !slices.Equal(seqs, c.seqs) || damaged != c.damaged || torn != c.torn || end != int64(c.end) {
			t.Errorf("%s: %v, %d damaged, torn %v, up to %d, %v", c.name, seqs, damaged, torn, end, err)
		}
	}
}

// TestWriteStats checks that a synced page counts as a whole.
func TestWriteStats(t *testing.T) {
	var s WriteStats
	for _, c := range []struct{ from, to int64 }{{0, 1}, {4000, 5000}, {4096, 8192}, {10, 10}} {
		s.addPages(c.from, c.to)
	}
	if got := s.Pages.Load(); got != 4 {
		t.Errorf("%d pages, want 4", got)
	}
}
