package persistence

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// smallLog returns a folder with one segment, and the name of the segment. Of its ten messages, 3
// and 4 are done and 5 is released.
func smallLog(t *testing.T) (*memFS, string) {
	t.Helper()
	fsys := newMemFS()
	l := open(t, fsys, Options{})
	for seq := uint64(1); seq <= 10; seq++ {
		if _, err := Append(l, numbered(seq, 20)); err != nil {
			t.Fatal(err)
		}
		switch seq {
		case 4:
			l.Done(3, Result{Kind: Acked})
			l.Done(4, Result{Kind: Refused, Reason: 0x97})
		case 6:
			l.Release(5)
			l.Seen(77, 7)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fsys.ReadDir("log")
	if len(names) != 1 {
		t.Fatalf("the folder has %v, want one segment", names)
	}
	return fsys, "log/" + names[0]
}

// TestCutAtEachByte truncates the file at each byte. The messages that are found must be a prefix
// of all messages.
func TestCutAtEachByte(t *testing.T) {
	fsys, name := smallLog(t)
	whole := fsys.data(name)
	most := -1
	for cut := range len(whole) {
		for _, zeros := range []int{0, 100} {
			o := Options{OnCorruption: func(c Corruption) { t.Errorf("cut at %d: a torn tail was reported as damage: %+v", cut, c) }}
			data := append(slices.Clone(whole[:cut]), make([]byte, zeros)...)
			l := open(t, fsys.edit(name, data), o)
			seqs, _ := contents(t, l)
			accepted := int(l.Stats().Accepted)
			want := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}[:accepted]
			if l.Stats().Acked == 1 {
				want = slices.Delete(slices.Clone(want), 2, 3)
			}
			if l.Stats().Refused == 1 {
				want = slices.Delete(slices.Clone(want), len(want)-accepted+3, len(want)-accepted+4)
			}
			if !slices.Equal(seqs, want) {
				t.Fatalf("cut at %d: %v are left, want %v", cut, seqs, want)
			}
			if l.Stats().Accepted < uint64(max(most, 0)) {
				t.Fatalf("cut at %d: fewer messages than with a shorter file", cut)
			}
			most = max(most, accepted)
			if seq, err := Append(l, numbered(uint64(accepted+1), 9)); err != nil || seq != uint64(accepted+1) {
				t.Fatalf("cut at %d: Append = %d, %v", cut, seq, err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if most != 10 {
		t.Fatalf("at most %d messages were found", most)
	}
}

// TestFlipEachBit checks that a flipped bit affects at most the record that contains it, and is
// reported with a copy.
func TestFlipEachBit(t *testing.T) {
	fsys, name := smallLog(t)
	whole := fsys.data(name)
	all := []uint64{1, 2, 5, 6, 7, 8, 9, 10}
	for at := range len(whole) {
		for _, bit := range []byte{1, 0x10, 0x80} {
			data := slices.Clone(whole)
			data[at] ^= bit
			left := fsys.edit(name, data)
			var reports []Corruption
			l := open(t, left, Options{OnCorruption: func(c Corruption) { reports = append(reports, c) }})
			seqs, _ := contents(t, l)
			missing, back := 0, 0
			for _, seq := range all {
				if !slices.Contains(seqs, seq) {
					missing++
				}
			}
			for _, seq := range seqs {
				if !slices.Contains(all, seq) {
					back++ // its done record is damaged
				}
			}
			s := l.Stats()
			if missing+back > 1 {
				t.Fatalf("bit at %d: %v are left", at, seqs)
			}
			if s.Corruptions+s.TornTails == 0 || int(s.Corruptions) != len(reports) {
				t.Fatalf("bit at %d: not noticed: %+v", at, s)
			}
			if s.Accepted != 10 || s.Lost != uint64(missing) {
				t.Fatalf("bit at %d: %d missing: %+v", at, missing, s)
			}
			for _, c := range reports {
				if c.File != name || c.Err == nil || c.Offset > int64(at) || c.Offset+c.Length <= int64(at) {
					t.Fatalf("bit at %d: reported as %+v", at, c)
				}
				if !bytes.Equal(left.data(c.Copy), data) {
					t.Fatalf("bit at %d: the copy %q is not the damaged file", at, c.Copy)
				}
			}
			// The next opening finds the same state.
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(t, left, Options{})
			if again, _ := contents(t, l); !slices.Equal(again, seqs) {
				t.Fatalf("bit at %d: %v were left, and then %v", at, seqs, again)
			}
			if n := l.Stats(); n.Lost != s.Lost || n.Acked != s.Acked || n.Dropped != s.Dropped {
				t.Fatalf("bit at %d: the totals were %+v, then %+v", at, s, n)
			}
			l.Close()
		}
	}
}

// manySegments returns a folder with messages in several segments, of which the first message is
// pending.
func manySegments(t *testing.T, n uint64) *memFS {
	t.Helper()
	fsys := newMemFS()
	l := open(t, fsys, small)
	for seq := uint64(1); seq <= n; seq++ {
		m := numbered(seq, 300)
		m.Stream, _, _ = l.Stream("s")
		m.StreamSeq = seq
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
		if seq%2 == 0 {
			l.Done(seq, Result{Kind: Acked})
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// TestDamagedPage overwrites 512 bytes anywhere in any segment. All other messages must be found,
// and counters must not decrease.
func TestDamagedPage(t *testing.T) {
	const n = 60
	fsys := manySegments(t, n)
	names, _ := fsys.ReadDir("log")
	if len(names) < 4 {
		t.Fatalf("only %d segments", len(names))
	}
	l := open(t, fsys.killed(), small)
	epoch := l.Epoch()
	l.Close()
	for _, name := range names {
		if name == recovery.ReserveName {
			continue // the page contains no records
		}
		name = "log/" + name
		whole := fsys.data(name)
		for at := 0; at+512 < len(whole); at += 512 {
			data := slices.Clone(whole)
			clear(data[at : at+512])
			l := open(t, fsys.edit(name, data), small)
			seqs, _ := contents(t, l)
			s := l.Stats()
			if s.Corruptions+s.TornTails == 0 || s.Accepted != n || len(seqs) < n/2-4 {
				t.Fatalf("page %d of %s: %d messages, %+v", at, name, len(seqs), s)
			}
			if _, last, _ := l.Stream("s"); last != n && l.Epoch() == epoch {
				t.Fatalf("page %d of %s: the stream went back to %d under the same epoch", at, name, last)
			}
			if _, err := Append(l, numbered(n+1, 10)); err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
	}
}

// TestMissingSegment removes a segment that is neither the oldest nor the newest.
func TestMissingSegment(t *testing.T) {
	fsys := manySegments(t, 60)
	names, _ := fsys.ReadDir("log")
	slices.Sort(names)
	fsys = fsys.edit("log/"+names[1], nil)
	var reports []Corruption
	o := small
	o.OnCorruption = func(c Corruption) { reports = append(reports, c) }
	l := open(t, fsys, o)
	defer l.Close()
	seqs, _ := contents(t, l)
	if len(reports) != 1 || reports[0].File != "log/"+names[1] || reports[0].Err != fs.ErrNotExist {
		t.Fatalf("reported: %+v", reports)
	}
	s := l.Stats()
	if len(seqs) < 20 || seqs[0] != 1 || s.Lost == 0 || s.Accepted != 60 {
		t.Fatalf("%v are left, %+v", seqs, s)
	}
	if _, last, _ := l.Stream("s"); last != 60 {
		t.Fatalf("the stream is at %d", last)
	}
}

// TestForeignFiles checks that the log does not change files that do not belong to it.
func TestForeignFiles(t *testing.T) {
	fsys, _ := smallLog(t)
	foreign := []string{"log/notes.txt", "log/1.mlog", "log/00000000000000FF.mlog", "log/zzzzzzzzzzzzzzzz.mlog", "log/0000000000000001.mlog.bak"}
	for _, name := range foreign {
		fsys = fsys.edit(name, []byte("mine"))
	}
	l := open(t, fsys, Options{})
	if seqs, _ := contents(t, l); len(seqs) != 8 {
		t.Fatalf("%v", seqs)
	}
	l.Close()
	for _, name := range foreign {
		if string(fsys.data(name)) != "mine" {
			t.Errorf("%s was touched", name)
		}
	}
}

// TestPacketWithALogInside checks that a payload may be a copy of a log, even if the record around
// it is damaged.
func TestPacketWithALogInside(t *testing.T) {
	inner, innerName := smallLog(t)
	fsys := newMemFS()
	l := open(t, fsys, Options{})
	payload := inner.data(innerName)
	if _, err := Append(l, &Message{Packet: payload}); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(2, 10)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	names, _ := fsys.ReadDir("log")
	name := "log/" + names[0]
	data := fsys.data(name)
	data[bytes.Index(data, payload)-3] ^= 1 // before the payload, in the same record
	l = open(t, fsys.edit(name, data), Options{})
	defer l.Close()
	if seqs, _ := contents(t, l); !slices.Equal(seqs, []uint64{2}) {
		t.Fatalf("%v came out of the payload", seqs)
	}
}

// TestDamageWhileRunning damages a message after the log was opened, and before Next reads it.
func TestDamageWhileRunning(t *testing.T) {
	fsys := manySegments(t, 60)
	var reports []Corruption
	o := small
	o.OnCorruption = func(c Corruption) { reports = append(reports, c) }
	l := open(t, fsys, o)
	defer l.Close()
	s, i := l.state.catalog.At(3)
	fsys.flip(t, segment.Name("log", s.Number), int64(s.Locs[i].Off)+100, 1)
	seqs, _ := contents(t, l)
	if slices.Contains(seqs, 3) || len(seqs) != 29 || len(reports) != 1 || l.Stats().Lost != 1 {
		t.Fatalf("%v; %+v; %+v", seqs, reports, l.Stats())
	}
}

// TestManyRestarts checks that restarts do not create more and more files, whatever is pending.
func TestManyRestarts(t *testing.T) {
	fsys := newMemFS()
	for boot := uint64(1); boot <= 100; boot++ {
		l := open(t, fsys, Options{})
		if names, _ := fsys.ReadDir("log"); len(names) != 1 {
			t.Fatalf("boot %d: %v", boot, names)
		}
		if _, err := Append(l, numbered(boot, 50)); err != nil {
			t.Fatal(err)
		}
		if boot == 1 {
			l.Stream("s")
		}
		if s := l.Stats(); s.Segments != 1 || l.Boot() != boot || s.Pending != boot {
			t.Fatalf("boot %d: %+v", boot, s)
		}
		l.Close()
		if names, _ := fsys.ReadDir("log"); len(names) != 1 {
			t.Fatalf("boot %d: %v", boot, names)
		}
	}
}

// TestRead_EndsUnreadableMessage checks that the error names the message, and that Next continues
// after the application has ended the message.
func TestRead_EndsUnreadableMessage(t *testing.T) {
	l := open(t, manySegments(t, 60), small)
	defer l.Close()
	fsys := l.o.FS.(*memFS)
	s, _ := l.state.catalog.At(1)
	last := s.End() - 1
	if err := fsys.Remove(segment.Name("log", s.Number)); err != nil {
		t.Fatal(err)
	}
	var e Entry
	for range 60 {
		_, err := l.Next(&Cursor{0}, &e)
		if err == nil {
			break
		}
		var unread *ReadError
		if !errors.As(err, &unread) || !errors.Is(err, fs.ErrNotExist) || unread.Seq > last {
			t.Fatal(err)
		}
		if err := l.Done(unread.Seq, Result{Kind: Dropped}); err != nil {
			t.Fatal(err)
		}
	}
	if e.Seq <= last || e.Seq > last+2 {
		t.Fatalf("after segment with %d comes %d", last, e.Seq)
	}
}
