package ordering_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

// FuzzResequencer pushes any numbers of any epochs. Each message that is not a Duplicate
// is emitted once, the numbers of Delivered messages ascend within an epoch, and the
// limits hold.
func FuzzResequencer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 0, 3, 0, 0, 2, 1, 0, 1}, true)
	f.Add([]byte{0, 255, 255, 0, 255, 254, 2, 0, 0, 0, 128, 1}, false)
	f.Fuzz(func(t *testing.T, data []byte, fromOne bool) {
		o := ordering.Options{MaxHeldPerKey: 4, MaxHeld: 6, MaxKeys: 3, MaxRanges: 3}
		if fromOne {
			o.Start = ordering.FromOne
		}
		r := ordering.NewResequencer[int](o)
		emitted := map[int]int{}
		var kept []int
		for i := 0; len(data) >= 3; i++ {
			// Numbers near both ends and in the middle.
			seq := uint64(int64(int16(binary.BigEndian.Uint16(data[1:]))))
			key, epoch := fmt.Sprint(data[0]&3), uint64(data[0]>>6)
			if r.Push(key, epoch, seq, i, func(v int) { emitted[v]++ }) != ordering.Duplicate {
				kept = append(kept, i)
			}
			data = data[3:]
			if s := r.Stats(); s.Held > o.MaxHeld || s.Keys > o.MaxKeys || s.Waiting != 0 {
				t.Fatalf("beyond the limits: %+v", s)
			}
		}
		r.Flush(func(v int) { emitted[v]++ })
		for _, i := range kept {
			if emitted[i] != 1 {
				t.Fatalf("message %d emitted %d times", i, emitted[i])
			}
			delete(emitted, i)
		}
		if len(emitted) != 0 {
			t.Fatalf("duplicates emitted: %v", emitted)
		}
	})
}
