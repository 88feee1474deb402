package persistence

import (
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// FuzzRecover opens a folder whose segment has arbitrary bytes; with sealed, all
// that looks like a record gets a valid checksum first, so that the fuzzer comes
// past it. The log must open, keep the sum, and find the same again.
func FuzzRecover(f *testing.F) {
	fsys, name := smallLog(&testing.T{})
	whole := fsys.data(name)
	f.Add(whole, false)
	f.Add(whole[:len(whole)/2], true)
	f.Add(whole[segment.HeaderSize:], true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if len(b) > 1<<16 {
			return
		}
		data := slices.Clone(b)
		if sealed {
			data = append(segment.Header{Number: 1, Epoch: 5, First: 1}.Append(nil), b...)
			for off := segment.HeaderSize; off < len(data); {
				size, ok := record.ParseTag(data[off:])
				if !ok || size > len(data)-off {
					off++
					continue
				}
				record.Seal(data[off:off+size], 1, int64(off), data[off+4]&(1<<4) != 0)
				off += size
			}
		}
		left := newMemFS()
		left = left.edit("log/0000000000000001.mlog", data)
		l, err := Open("log", Options{FS: left})
		if err != nil {
			t.Fatal(err)
		}
		seqs, stats := entries(t, l)
		if l.LastSeq() < record.MaxSequence {
			if _, err := Append(l, &Message{Packet: []byte("more")}); err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, l.LastSeq())
			stats.Accepted++
			stats.Pending++
			stats.PendingOf[Normal]++
			stats.PendingBytes += 4
		}
		ids := l.SeenIDs()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, left, Options{})
		defer l.Close()
		again, stats2 := entries(t, l)
		if !slices.Equal(seqs, again) || !slices.Equal(ids, l.SeenIDs()) {
			t.Fatalf("%v, then %v", seqs, again)
		}
		stats.Corruptions, stats.TornTails, stats2.Corruptions, stats2.TornTails = 0, 0, 0, 0
		if stats != stats2 {
			t.Fatalf("%+v, then %+v", stats, stats2)
		}
	})
}

// entries drains l whatever the packets are.
func entries(t *testing.T, l *Log) (seqs []uint64, s Stats) {
	t.Helper()
	var e Entry
	for {
		after := e.Seq
		ok, err := l.Next(&Cursor{after}, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if e.Seq <= after {
			t.Fatalf("after %d came %d", after, e.Seq)
		}
		seqs = append(seqs, e.Seq)
	}
	s = l.Stats()
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending || s.Pending != uint64(len(seqs)) {
		t.Fatalf("the sum does not hold: %+v, %d messages", s, len(seqs))
	}
	s.Syncs, s.BytesWritten, s.DiskBytes, s.Segments = 0, 0, 0, 0
	return seqs, s
}
