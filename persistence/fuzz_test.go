package persistence

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// FuzzRecover opens a folder whose segment contains arbitrary bytes. With sealed, everything that
// looks like a record first gets a valid checksum, so that the fuzzer passes the checksum. The log
// must open, have consistent totals, and find the same content again.
func FuzzRecover(f *testing.F) {
	fsys, name := smallLog(&testing.T{})
	whole := fsys.data(name)
	f.Add(whole, false)
	f.Add(whole[:len(whole)/2], true)
	f.Add(whole[segment.HeaderSize:], true)
	f.Add([]byte{}, false)
	l := open(&testing.T{}, fsys, Options{})
	for seq := range uint64(3) {
		d := Deferral{Since: time.UnixMilli(1_700_000_000_000), Until: time.UnixMilli(1_700_000_060_000), Attempts: 300, Code: 0x97, Alone: seq == 1, PacketID: uint16(7 * seq), RefusedID: uint16(300 * seq)}
		if err := l.Defer(6+seq, d); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(l.Release(8), l.Close()); err != nil {
		f.Fatal(err)
	}
	names, _ := fsys.ReadDir("log")
	for _, name := range names {
		if b := fsys.data("log/" + name); len(b) > segment.HeaderSize && strings.HasSuffix(name, ".mlog") {
			f.Add(b, false)
			f.Add(b[segment.HeaderSize:], true)
		}
	}
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
			seqs = slices.Insert(seqs, len(seqs)-len(l.Deferred()), l.LastSeq())
			stats.Accepted++
			stats.Pending++
			stats.PendingOf[Normal]++
			stats.PendingBytes += 4
		}
		ids, deferred := l.SeenIDs(), l.Deferred()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, left, Options{})
		defer l.Close()
		again, stats2 := entries(t, l)
		if !slices.Equal(seqs, again) || !maps.Equal(ids, l.SeenIDs()) || !slices.Equal(deferred, l.Deferred()) {
			t.Fatalf("%v, then %v", seqs, again)
		}
		stats.Corruptions, stats.TornTails, stats2.Corruptions, stats2.TornTails = 0, 0, 0, 0
		if stats != stats2 {
			t.Fatalf("%+v, then %+v", stats, stats2)
		}
	})
}

// entries drains l, whatever the packets contain.
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
	for _, d := range l.Deferred() {
		if ok, err := l.Get(d.Seq, &e); !ok || err != nil || slices.Contains(seqs, d.Seq) || e.Deferral != d.Deferral {
			t.Fatalf("message %d is deferred and also in order, or not there: %t, %v", d.Seq, ok, err)
		}
		seqs = append(seqs, d.Seq)
	}
	s = l.Stats()
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending || s.Pending != uint64(len(seqs)) {
		t.Fatalf("the sum does not hold: %+v, %d messages", s, len(seqs))
	}
	s.Syncs, s.BytesWritten, s.DiskBytes, s.Segments = 0, 0, 0, 0
	return seqs, s
}
