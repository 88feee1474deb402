package persistence

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// TestEpoch_ChangesAfterDamage damages a numbered message after the last checkpoint. Its number may
// be assigned again, so a new epoch begins, once.
func TestEpoch_ChangesAfterDamage(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, Options{})
	id, _, _ := l.Stream("s")
	for seq := uint64(1); seq <= 3; seq++ {
		m := numbered(seq, 50)
		m.Stream, m.StreamSeq = id, seq
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
	}
	left := fsys.killed()
	s, i := l.state.catalog.At(2)
	left.flip(t, segment.Name("log", s.Number), int64(s.Locs[i].Off)+40, 1)
	l2 := open(t, left, Options{})
	renewed := l2.Epoch()
	if renewed <= l.Epoch() || l2.Stats().Lost != 1 {
		t.Fatalf("epoch %d, then %d, %+v", l.Epoch(), renewed, l2.Stats())
	}
	l2.Close()
	l2 = open(t, left, Options{})
	if l2.Epoch() != renewed {
		t.Fatalf("epoch %d, then %d", renewed, l2.Epoch())
	}
	l2.Close()
	l.Close()
}

// TestOpen_PowerFailureDuringOpening checks a new segment whose first page never reached the disk.
// The segment is not in use, and that is not damage.
func TestOpen_PowerFailureDuringOpening(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, Options{})
	for seq := uint64(1); seq <= 10; seq++ {
		if _, err := Append(l, numbered(seq, 50)); err != nil {
			t.Fatal(err)
		}
	}
	left := fsys.killed()
	l.Close()
	for _, hole := range []int{segment.HeaderSize, segment.HeaderSize + 60} {
		again := left.killed()
		l := open(t, again, Options{})
		name := segment.Name("log", l.writer.Number)
		data := again.data(name)[:openingEnd(t, l)]
		clear(data[:hole])
		l.Close()
		l = open(t, left.edit(name, data), Options{OnCorruption: func(c Corruption) { t.Errorf("reported %+v", c) }})
		if seqs, _ := contents(t, l); len(seqs) != 10 {
			t.Fatalf("hole of %d: %v are left", hole, seqs)
		}
		l.Close()
	}
}

// openingEnd returns the offset of the end of the opening of the active segment, which is the end
// of its first checkpoint.
func openingEnd(t *testing.T, l *Log) (end int64) {
	t.Helper()
	f, err := l.o.FS.Open(segment.Name(l.folder.dir, l.writer.Number))
	if err != nil {
		t.Fatal(err)
	}
	s := segment.Scanner{Window: segment.Window{F: f, Limit: l.writer.End, Chunk: 1 << 16}, Number: l.writer.Number}
	_, _, err = s.Scan(segment.HeaderSize, false, func(off int64, r *record.Record) bool {
		end = off + int64(r.Size)
		return r.Kind != record.KindCheckpoint
	}, func(int64, int64) { t.Fatal("damaged") })
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// TestOpen_DamageInOpening checks an opening that contains the messages of the old segment, which
// is removed. The process was killed directly afterwards, and one of the records is damaged.
func TestOpen_DamageInOpening(t *testing.T) {
	fsys, _ := smallLog(t)
	l := open(t, fsys, Options{})
	left := fsys.killed()
	name := segment.Name("log", l.writer.Number)
	l.Close()
	left.flip(t, name, int64(bytes.Index(left.data(name), numbered(7, 20).Packet))+15, 1)
	l = open(t, left, Options{})
	defer l.Close()
	if seqs, _ := contents(t, l); !slices.Equal(seqs, []uint64{1, 2, 5, 6, 8, 9, 10}) || l.Stats().Corruptions != 1 {
		t.Fatalf("%v are left, %+v", seqs, l.Stats())
	}
}

// TestOpen_MakesFoundMessagesDurable kills a process that has not synced. The next process may send
// the messages that it finds, so a power failure must not remove them any more.
func TestOpen_MakesFoundMessagesDurable(t *testing.T) {
	for _, n := range []uint64{5, 400} { // few enough to be written again, and too many
		fsys := newMemFS()
		l := open(t, fsys, Options{Sync: SyncNever, Files: Files{BufferBytes: 4 << 10, SegmentBytes: 64 << 10}})
		for seq := uint64(1); seq <= n; seq++ {
			if _, err := Append(l, numbered(seq, 100)); err != nil {
				t.Fatal(err)
			}
		}
		left := fsys.killed()
		l.Close()
		l = open(t, left, Options{Files: Files{BufferBytes: 4 << 10, SegmentBytes: 64 << 10}})
		for state := range uint64(5) {
			after := open(t, left.powerCut(rand.New(rand.NewPCG(state, 1))), Options{})
			if seqs, _ := contents(t, after); uint64(len(seqs)) != n {
				t.Fatalf("%d of %d messages are left", len(seqs), n)
			}
			after.Close()
		}
		l.Close()
	}
}
