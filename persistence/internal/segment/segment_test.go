package segment_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

func TestName(t *testing.T) {
	for name, want := range map[string]uint64{
		"0000000000000001.mlog": 1, "0000ffffffffffff.mlog": 1<<48 - 1, "0001000000000000.mlog": 0, "1.mlog": 0,
		"000000000000000A.mlog": 0, "0000000000000001.mrcp": 0, "LOCK": 0, "": 0,
	} {
		if got := segment.ParseName(name); got != want {
			t.Errorf("%s is segment %d, want %d", name, got, want)
		}
	}
	if got := segment.Name("d", 26); got != "d/000000000000001a.mlog" {
		t.Error(got)
	}
}

// FuzzHeader checks that a parsed header is encoded again with the same meaning.
func FuzzHeader(f *testing.F) {
	f.Add(segment.Header{Number: 3, Epoch: 4, First: 5, Prev: segment.Link{Number: 2, Size: 100}}.Append(nil), uint16(2))
	f.Add(segment.Header{Number: 1, Epoch: 1, First: 1}.Append(nil), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, version uint16) {
		if len(b) >= segment.HeaderSize { // with a valid checksum
			b = slices.Clone(b[:60])
			b[8], b[9] = byte(version), byte(version>>8)
			sum := record.CRC(b)
			b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		}
		h, err := segment.ReadHeader(bytes.NewReader(b), "name")
		if err != nil {
			var newer *segment.VersionError
			if errors.As(err, &newer) != (err != segment.ErrHeader) {
				t.Fatal(err)
			}
			return
		}
		again, err := segment.ReadHeader(bytes.NewReader(h.Append(nil)), "name")
		if again.Version = h.Version; err != nil || again != h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

// TestWindow compares the views of a Window with the data.
func TestWindow(t *testing.T) {
	data := make([]byte, 1000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	w := segment.Window{F: bytes.NewReader(data), Limit: 900, Chunk: 64}
	for _, c := range []struct {
		off  int64
		n    int
		want int
	}{{0, 10, 10}, {60, 10, 10}, {30, 200, 200}, {880, 100, 20}, {900, 10, 0}, {5000, 10, 0}, {0, 900, 900}} {
		b, err := w.View(c.off, c.n)
		if err != nil || len(b) != c.want || len(b) > 0 && !bytes.Equal(b, data[c.off:][:c.want]) {
			t.Errorf("%d bytes at %d: %d, %v", c.n, c.off, len(b), err)
		}
	}
	short := segment.Window{F: bytes.NewReader(data), Limit: 2000, Chunk: 64}
	if _, err := short.View(990, 20); !segment.Damaged(err) {
		t.Errorf("a file that is too short: %v", err)
	}
}

// TestTail checks that the newest bytes are kept, but at most twice the limit.
func TestTail(t *testing.T) {
	tail := segment.Tail{Limit: 100}
	for i := range 50 {
		tail.Add(1, int64(i*10), bytes.Repeat([]byte{byte(i)}, 10))
	}
	if b := tail.From(1, 400); len(b) != 100 || b[0] != 40 || b[99] != 49 {
		t.Errorf("the last 100 bytes are %v", b)
	}
	for _, off := range []int64{290, 500} {
		if b := tail.From(1, off); b != nil {
			t.Errorf("%d bytes are kept at %d", len(b), off)
		}
	}
	if tail.From(2, 400) != nil {
		t.Error("bytes of another segment are kept")
	}
	tail.Add(1, 500, make([]byte, 101)) // too long to keep
	tail.Add(1, 601, []byte("x"))
	if b := tail.From(1, 601); string(b) != "x" || tail.From(1, 600) != nil {
		t.Errorf("after a long write: %q", b)
	}
}

// begin returns a Writer with a segment that contains one message.
func begin(t *testing.T, fs *faultfs.FS) *segment.Writer {
	t.Helper()
	w := &segment.Writer{FS: fs, Dir: "d", Epoch: 5, SegmentBytes: 1 << 20, Last: 6, Stats: &segment.WriteStats{}}
	m := record.Record{Seq: 1, Message: record.Message{Expires: record.Never, Packet: []byte("one")}}
	if err := w.Begin(segment.Header{First: 1}, m.AppendMessage(nil), record.AppendCheckpoint(nil, []byte{1})); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestWriter_Durability checks what a power failure leaves after Append.
func TestWriter_Durability(t *testing.T) {
	for _, most := range []int64{0, 20, math.MaxInt64} {
		fs := faultfs.New()
		w := begin(t, fs)
		w.MaxUnsynced = most
		synced, cuts := uint64(1), map[int]uint64{} // cuts: synced messages by number of operations
		for seq := uint64(2); seq < 9; seq++ {
			if err := w.Append(record.AppendReleased(nil, seq, seq), seq == 8); err != nil {
				t.Fatal(err)
			}
			if w.Durable == w.End {
				synced = seq
			}
			if unsynced := w.End - w.Durable; unsynced > most {
				t.Errorf("%d bytes are unsynced, want at most %d", unsynced, most)
			}
			cuts[fs.Len()] = synced
		}
		for state := range fs.Trace().States(faultfs.Plan{PerCut: 100}) {
			if least, ok := cuts[state.Cut]; ok {
				if got := last(t, state.FS(), w.Number); got < least {
					t.Fatalf("record %d is the last, and %d was synced: %v", got, least, state)
				}
			}
		}
		if synced != 8 {
			t.Errorf("a forced Append is not synced")
		}
	}
}

// last returns the highest sequence in a segment.
func last(t *testing.T, fs *faultfs.FS, number uint64) (seq uint64) {
	t.Helper()
	data := fs.Files()[segment.Name("d", number)]
	s := segment.Scanner{Window: segment.Window{F: bytes.NewReader(data), Limit: int64(len(data)), Chunk: 4096}, Number: number}
	_, _, err := s.Scan(segment.HeaderSize, false, func(_ int64, r *record.Record) bool {
		seq = max(seq, r.Seq)
		return true
	}, func(off, length int64) { t.Fatalf("%d bytes at %d are damaged", length, off) })
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// TestWriter_FailedBegin checks that the old segment stays active, and that the new file is in
// Leftover.
func TestWriter_FailedBegin(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir} {
		fs := faultfs.New()
		w := begin(t, fs)
		end := w.End
		fs.SetFault(func(op faultfs.Op) (int, error) {
			if op.Kind == kind {
				return 0, syscall.EIO
			}
			return op.Len, nil
		})
		err := w.Begin(segment.Header{First: 2, Prev: segment.Link{Number: 7, Size: end}}, nil, record.AppendCheckpoint(nil, []byte{1}))
		fs.SetFault(nil)
		if !errors.Is(err, syscall.EIO) || w.Number != 7 || w.End != end {
			t.Errorf("%v: %v, segment %d", kind, err, w.Number)
		}
		if left := w.Leftover; len(left) > 1 || (len(left) == 1) != (kind != faultfs.Create) {
			t.Errorf("%v: left over: %v", kind, left)
		}
		if err := w.Begin(segment.Header{First: 2}, nil, nil); err != nil || w.Number != 9 {
			t.Errorf("%v: another try: segment %d, %v", kind, w.Number, err)
		}
	}
}

// TestWriter_Preallocate checks that the file grows by preallocation only, and that Trim truncates
// it to its records.
func TestWriter_Preallocate(t *testing.T) {
	fs := faultfs.New()
	w := begin(t, fs)
	w.Preallocate = 64 << 10
	size := func() int64 { return int64(len(fs.Files()[segment.Name("d", 7)])) }
	sizes := map[int64]bool{}
	for seq := uint64(2); seq < 3000; seq++ {
		if err := w.Append(record.AppendReleased(nil, seq, seq), false); err != nil {
			t.Fatal(err)
		}
		sizes[size()] = true
	}
	if len(sizes) > 4 || size() <= w.End {
		t.Errorf("the file had %d sizes, and %d bytes for %d of records", len(sizes), size(), w.End)
	}
	if w.Trim(); size() != w.End {
		t.Errorf("trimmed to %d, want %d", size(), w.End)
	}
}

func TestReader(t *testing.T) {
	fs := faultfs.New()
	w := begin(t, fs)
	off := w.End
	if err := w.Append(record.AppendReleased(nil, 9, 9), true); err != nil {
		t.Fatal(err)
	}
	r := segment.NewReader(fs, "d", 4096)
	r.Lock()
	if r.Buffered(7, off) != nil {
		t.Error("a record is buffered before the first read")
	}
	var rec record.Record
	if err := r.Message(&rec, 7, 9, off, w.End); err != nil || rec.Seq != 9 {
		t.Errorf("%+v, %v", rec, err)
	}
	if err := r.Message(&rec, 7, 8, off, w.End); !segment.Damaged(err) {
		t.Errorf("the record of another message: %v", err)
	}
	if b := fs.Files()[segment.Name("d", 7)][off:w.End]; !bytes.Equal(r.Buffered(7, off), b) || r.Buffered(8, off) != nil || r.Buffered(7, off+1) != nil {
		t.Error("Buffered returns another record, or none")
	}
	if err := r.Message(&rec, 7, 9, off+1, w.End); !segment.Damaged(err) {
		t.Errorf("a record between two: %v", err)
	}
	if err := r.Message(&rec, 8, 9, off, w.End); err == nil || segment.Damaged(err) {
		t.Errorf("a segment that does not exist: %v", err)
	}
	if err := r.Message(&rec, 7, 9, off, w.End); err != nil {
		t.Error(err)
	}
	r.Unlock()
	r.Leave(7)
	if err := errors.Join(w.Close(), fs.Remove(segment.Name("d", 7))); err != nil {
		t.Errorf("the file is still open: %v", err)
	}
}
