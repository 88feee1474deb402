package ordering_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

// numbered returns an ID for a number.
func numbered(n uint64) (id ordering.ID) {
	binary.BigEndian.PutUint64(id[:], n+1)
	return id
}

func BenchmarkPushInOrder(b *testing.B) {
	r := ordering.NewResequencer[int](ordering.Options{})
	emit := func(int, bool) {}
	b.ReportAllocs()
	for seq := uint64(1); b.Loop(); seq++ {
		r.Push("k", 1, seq, numbered(seq), 0, emit)
	}
}

// Each pair is swapped.
func BenchmarkPushSwapped(b *testing.B) {
	r := ordering.NewResequencer[int](ordering.Options{})
	r.Restore("k", ordering.Position{Epoch: 1, Last: 1})
	emit := func(int, bool) {}
	b.ReportAllocs()
	for i := uint64(2); b.Loop(); i++ {
		r.Push("k", 1, i^1, numbered(i^1), 0, emit)
	}
}

func BenchmarkPushManyKeys(b *testing.B) {
	keys := make([]string, 4096)
	for i := range keys {
		keys[i] = fmt.Sprintf("publisher %d/plant/meter", i)
	}
	r := ordering.NewResequencer[int](ordering.Options{})
	emit := func(int, bool) {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Push(keys[i%len(keys)], 1, uint64(i/len(keys)), numbered(uint64(i)), 0, emit)
	}
}

// The worst order for held messages: reversed.
func BenchmarkPushReversed(b *testing.B) {
	emit := func(int, bool) {}
	b.ReportAllocs()
	for b.Loop() {
		r := ordering.NewResequencer[int](ordering.Options{})
		r.Restore("k", ordering.Position{Epoch: 1, Last: 0})
		for seq := uint64(1024); seq > 0; seq-- {
			r.Push("k", 1, seq, numbered(seq), 0, emit)
		}
	}
}

func BenchmarkEnvelope(b *testing.B) {
	e := ordering.Envelope{ID: "0192f0c4", Sequence: 7, Payload: []byte(`{"celsius":21.5,"unit":"C"}`)}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ordering.EncodeEnvelope(e)
		}
	})
	data, _ := ordering.EncodeEnvelope(e)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ordering.DecodeEnvelope(data)
		}
	})
}
