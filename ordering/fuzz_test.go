package ordering_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

// FuzzResequencer pushes any numbers of any epochs, with any IDs. Each message whose ID is new
// is emitted once. Of one without ID, a copy is dropped at most where its number is known.
func FuzzResequencer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 3, 0, 0, 2, 1, 0, 1}, true)
	f.Add([]byte{0, 255, 255, 0, 255, 254, 2, 0, 0, 0, 128, 1}, false)
	f.Add([]byte{4, 0, 1, 8, 0, 1, 4, 0, 1, 12, 0, 9, 8, 0, 9, 12, 0, 9, 0, 0, 9}, false)
	f.Fuzz(func(t *testing.T, data []byte, fromOne bool) {
		o := ordering.Options{MaxHeldPerKey: 4, MaxHeld: 6, MaxKeys: 3, MaxRanges: 3, MaxIDs: 8, MaxIDBytes: 256}
		if fromOne {
			o.Start = ordering.FromOne
		}
		r := ordering.NewResequencer[int](o)
		emitted, seen := map[int]int{}, map[[2]byte]bool{}
		emit := func(v int, _ bool) { emitted[v]++ }
		var kept []int
		for i := 0; len(data) >= 3; i++ {
			// Numbers near both ends and in the middle.
			seq := uint64(int64(int16(binary.BigEndian.Uint16(data[1:]))))
			key, epoch, id := data[0]&3, uint64(data[0]>>6), ordering.ID{data[0] >> 2 & 15}
			result := r.Push(fmt.Sprint(key), epoch, seq, id, i, emit)
			identity := [2]byte{key, id[0]}
			dropped := result == ordering.Duplicate || result == ordering.NumberRepeated
			switch {
			case !dropped:
				kept = append(kept, i)
			case result == ordering.NumberRepeated && id != ordering.ID{}, result == ordering.Duplicate && !seen[identity]:
				t.Fatalf("message %d is dropped as %v", i, result)
			}
			seen[identity] = id != ordering.ID{}
			data = data[3:]
			if s := r.Stats(); s.Held > o.MaxHeld || s.Keys > o.MaxKeys || s.Waiting != 0 || s.IDBytes > o.MaxIDBytes {
				t.Fatalf("beyond the limits: %+v", s)
			}
		}
		r.Flush(emit)
		for _, i := range kept {
			if emitted[i] != 1 {
				t.Fatalf("message %d emitted %d times", i, emitted[i])
			}
			delete(emitted, i)
		}
		if len(emitted) != 0 {
			t.Fatalf("dropped messages emitted: %v", emitted)
		}
	})
}
