package recovery_test

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// writer writes a log record by record.
type writer struct {
	t *testing.T
	segment.Writer
	fs *faultfs.FS
	g  ledger.Ledger
}

func newWriter(t *testing.T) *writer {
	w := &writer{t: t, fs: faultfs.New(), g: ledger.Ledger{Epoch: 5, Boot: 1, Next: 1}}
	w.Writer = segment.Writer{FS: w.fs, Dir: "d", Epoch: 5, SegmentBytes: 1 << 20, Stats: &segment.WriteStats{}}
	w.begin(nil)
	return w
}

// begin begins a segment whose opening contains these records.
func (w *writer) begin(records []byte) {
	w.t.Helper()
	prev := segment.Link{Number: w.Number, Size: w.End}
	if err := w.Begin(segment.Header{First: w.g.Next, Prev: prev}, records, w.g.AppendCheckpoint(nil, prev)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) append(records []byte) {
	w.t.Helper()
	if err := w.Append(records, false); err != nil {
		w.t.Fatal(err)
	}
}

// add appends a message of 10 bytes.
func (w *writer) add() { w.append(w.message()) }

func (w *writer) message() []byte {
	seq, _ := w.g.Accept(record.Normal, 10, 0, 0)
	r := record.Record{Seq: seq, Message: record.Message{Expires: record.Never, Packet: make([]byte, 10)}}
	return r.AppendMessage(nil)
}

func (w *writer) done(seq uint64) {
	w.g.Settle(record.Normal, record.Acked, 10)
	w.append(record.AppendDone(nil, seq, record.Result{Kind: record.Acked}, 0))
}

// read reads the folder. It returns the state and the reported damage.
func read(t *testing.T, fs *faultfs.FS) (s *recovery.State, reports []recovery.Damage) {
	t.Helper()
	s, err := recovery.Read(recovery.Config{FS: fs, Dir: "d", DeadLetters: true, Report: func(d recovery.Damage) { reports = append(reports, d) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if uint64(len(reports)) != s.Corruptions {
		t.Errorf("%d places were reported, %d counted", len(reports), s.Corruptions)
	}
	return s, reports
}

func pending(s *recovery.State) (seqs []uint64) {
	for seq, m := range s.Catalog.All {
		if m.Alive() {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func numbers(s *recovery.State) (list []uint64) {
	for _, x := range s.Catalog.Segments {
		list = append(list, x.Number)
	}
	return list
}

// three returns a log of three segments. Each contains two messages, of which one has ended.
func three(t *testing.T) *writer {
	w := newWriter(t)
	for n := range 3 {
		if n > 0 {
			w.begin(nil)
		}
		w.add()
		w.add()
	}
	w.done(2)
	return w
}

func TestRead(t *testing.T) {
	s, reports := read(t, three(t).fs)
	if got := pending(s); !slices.Equal(got, []uint64{1, 3, 4, 5, 6}) || reports != nil || s.TornTails != 0 || s.Stale || s.Newest != 3 {
		t.Errorf("pending %v, %+v", got, reports)
	}
	if g := &s.Ledger; g.Accepted() != 6 || g.Totals[record.Acked] != 1 || g.Pending != 5 || g.PendingBytes != 50 || g.Epoch != 5 {
		t.Errorf("%+v", g)
	}
	if got := numbers(s); !slices.Equal(got, []uint64{1, 2, 3}) || s.Garbage != nil {
		t.Errorf("segments %v, garbage %v", got, s.Garbage)
	}
}

// TestRead_Links checks which segments are in use if some are superseded, unfinished, missing or
// damaged.
func TestRead_Links(t *testing.T) {
	name := func(n uint64) string { return segment.Name("d", n) }
	whole := three(t).fs.Files()
	for _, c := range []struct {
		name    string
		change  func(files map[string][]byte)
		numbers []uint64
		garbage []string
		pending []uint64
		lost    uint64
		reports int
		torn    uint64
		newest  uint64
	}{
		{"an unfinished opening", func(f map[string][]byte) { f[name(4)] = f[name(3)][:80] }, []uint64{1, 2, 3}, []string{name(4)}, []uint64{1, 3, 4, 5, 6}, 0, 0, 1, 4},
		{"one that is superseded", func(f map[string][]byte) {
			f[name(9)] = renumber(t, f[name(3)], 9)
		}, []uint64{1, 2, 9}, []string{name(3)}, []uint64{1, 3, 4, 5, 6}, 0, 0, 0, 9},
		{"one is missing", func(f map[string][]byte) { delete(f, name(2)) }, []uint64{1, 3}, nil, []uint64{1, 5, 6}, 2, 1, 0, 3},
		{"the oldest is missing", func(f map[string][]byte) { delete(f, name(1)) }, []uint64{2, 3}, nil, []uint64{3, 4, 5, 6}, 1, 1, 0, 3},
		{"a damaged header", func(f map[string][]byte) { f[name(2)][20] ^= 1 }, []uint64{1, 2, 3}, nil, []uint64{1, 3, 4, 5, 6}, 0, 1, 0, 3},
		{"a torn end", func(f map[string][]byte) { f[name(3)] = f[name(3)][:len(f[name(3)])-1] }, []uint64{1, 2, 3}, nil, []uint64{1, 2, 3, 4, 5, 6}, 0, 0, 1, 3},
		{"an end that is too short", func(f map[string][]byte) { f[name(2)] = f[name(2)][:len(f[name(2)])-1] }, []uint64{1, 2, 3}, nil, []uint64{1, 3, 5, 6}, 1, 2, 0, 3},
		{"other files", func(f map[string][]byte) { f["d/3.mlog"], f["d/LOCK"] = []byte("x"), nil }, []uint64{1, 2, 3}, nil, []uint64{1, 3, 4, 5, 6}, 0, 0, 0, 3},
		{"nothing", func(f map[string][]byte) { clear(f) }, nil, nil, nil, 0, 0, 0, 0},
	} {
		files := map[string][]byte{}
		for n, data := range whole {
			files[n] = slices.Clone(data)
		}
		c.change(files)
		s, reports := read(t, faultfs.From(files))
		if !slices.Equal(numbers(s), c.numbers) || !slices.Equal(s.Garbage, c.garbage) || s.Newest != c.newest {
			t.Errorf("%s: segments %v, garbage %v, newest %d", c.name, numbers(s), s.Garbage, s.Newest)
		}
		if !slices.Equal(pending(s), c.pending) || s.Ledger.Lost != c.lost || len(reports) != c.reports || s.TornTails != c.torn {
			t.Errorf("%s: pending %v, %d lost, %d torn, %+v", c.name, pending(s), s.Ledger.Lost, s.TornTails, reports)
		}
	}
}

// renumber returns the content of a segment under another number.
func renumber(t *testing.T, data []byte, number uint64) []byte {
	h, err := segment.ReadHeader(strings.NewReader(string(data)), "")
	if err != nil {
		t.Fatal(err)
	}
	h.Number = number
	b := append(h.Append(nil), data[segment.HeaderSize:]...)
	record.Seal(b[segment.HeaderSize:], number, segment.HeaderSize, false)
	return b
}

// TestRead_Damage checks that a damaged record is reported, that a copy is kept, and that all other
// records are read.
func TestRead_Damage(t *testing.T) {
	w := newWriter(t)
	at := w.End
	for range 5 {
		w.add()
	}
	w.done(4)
	files := w.fs.Files()
	name := segment.Name("d", 1)
	damaged := slices.Clone(files[name])
	damaged[at+12] ^= 1
	files[name] = damaged
	disk := faultfs.From(files)
	s, reports := read(t, disk)
	if got := pending(s); !slices.Equal(got, []uint64{2, 3, 5}) || s.Ledger.Lost != 1 || !s.Stale {
		t.Errorf("pending %v, %+v", got, s.Ledger)
	}
	want := recovery.Damage{File: name, Offset: at, Length: reports[0].Length, Copy: name + recovery.CopySuffix, Err: record.ErrInvalid}
	if !slices.Equal(reports, []recovery.Damage{want}) || !slices.Equal(disk.Files()[want.Copy], damaged) {
		t.Errorf("%+v", reports)
	}
	if s.Ledger.Sent[record.Normal] != 5 {
		t.Errorf("the sent watermark is %d, and it is not known", s.Ledger.Sent[record.Normal])
	}
}

// TestState_Carry checks which part of the last segment is written again.
func TestState_Carry(t *testing.T) {
	for _, c := range []struct {
		name          string
		small, buffer int64
		first         uint64
		last          int64 // size of the last segment; 0: it is removed
	}{{"all of a small segment", 1 << 20, 0, 1, 0}, {"what is after the fence", 10, 1 << 20, 3, -1}, {"nothing", 10, 1, 5, -2}} {
		w := newWriter(t)
		w.add()
		w.add()
		fence := w.End
		w.MaxUnsynced = 1 << 20 // only one more fence
		w.append(slices.Concat(record.AppendReleased(nil, 1, 1), w.message()))
		w.append(slices.Concat(w.message(), record.AppendDone(nil, 4, record.Result{Kind: record.Acked}, 0)))
		s, _ := read(t, w.fs)
		next, h, records, err := s.Carry(c.small, c.buffer)
		if err != nil {
			t.Fatal(err)
		}
		want := map[int64]int64{0: 0, -1: fence, -2: w.End}[c.last]
		if c.last != 0 && (h.Prev != segment.Link{Number: 1, Size: want} || s.Garbage != nil) || c.last == 0 && (h.Prev.Number != 0 || len(s.Garbage) != 1) {
			t.Errorf("%s: linked to %+v, garbage %v", c.name, h.Prev, s.Garbage)
		}
		if next.First != c.first || h.First != c.first || next != s.Catalog.Active() || next.Number != 2 {
			t.Errorf("%s: %+v, %+v", c.name, next, h)
		}
		// The log continues with the carried records and is read again.
		w.g = s.Ledger
		if err := w.Begin(h, records, w.g.AppendCheckpoint(nil, h.Prev)); err != nil {
			t.Fatal(err)
		}
		files := w.fs.Files()
		for _, name := range s.Garbage {
			delete(files, name)
		}
		again, reports := read(t, faultfs.From(files))
		if got := pending(again); !slices.Equal(got, []uint64{1, 2, 3}) || reports != nil || again.Catalog.Committed(1).State() != index.Released {
			t.Errorf("%s: pending %v, %+v", c.name, got, reports)
		}
		for seq := range uint64(4) {
			if a, b := s.Catalog.Committed(seq+1), again.Catalog.Committed(seq+1); a.Loc() != b.Loc() || a.Segment.Number != b.Segment.Number {
				t.Errorf("%s: message %d is at %+v, and was carried to %+v", c.name, seq+1, b.Loc(), a.Loc())
			}
		}
	}
}

// TestRead_Receipts checks that the receipts of a segment in use are garbage, and so are all
// receipts if they are disabled.
func TestRead_Receipts(t *testing.T) {
	files := three(t).fs.Files()
	for _, number := range []uint64{2, 77} {
		_, content := receipts.Encode(number, []receipts.Receipt{{Seq: 1, Result: record.Result{Kind: record.Acked}}})
		files[receipts.Name("d", number)] = content
	}
	files[receipts.Name("d", 78)] = []byte("damaged")
	s, err := recovery.Read(recovery.Config{FS: faultfs.From(maps.Clone(files)), Dir: "d", Receipts: true, Report: func(recovery.Damage) {}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Receipts.Total != 1 || !slices.Equal(s.Garbage, []string{receipts.Name("d", 2), receipts.Name("d", 78)}) || s.Corruptions != 1 {
		t.Errorf("%+v, %v", s.Receipts, s.Garbage)
	}
	s.Close()
	s, reports := read(t, faultfs.From(files))
	if len(s.Garbage) != 3 || s.Receipts.Total != 0 || len(reports) != 1 || errors.Is(reports[0].Err, fs.ErrNotExist) {
		t.Errorf("not wanted: %v, %+v", s.Garbage, reports)
	}
}
