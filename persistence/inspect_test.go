package persistence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// image is what must not change: names, sizes, modes, times and contents.
func image(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprint(info.Mode(), info.ModTime())
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			files[path] += fmt.Sprintf(" %d %x", info.Size(), sha256.Sum256(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func inspect(t *testing.T, dir string, fsys fsys.FS) *Inspection {
	t.Helper()
	in, err := Inspect(dir, Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

// seqsOf goes through the messages of some kinds.
func seqsOf(t *testing.T, in *Inspection, which Which) (seqs []uint64) {
	t.Helper()
	if err := in.Messages(which, func(m *StoredMessage) bool {
		seqs = append(seqs, m.Seq)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return seqs
}

// TestInspect: everything that a log keeps is shown, on a folder that is in use
// and on one that is not, and nothing of it changes.
func TestInspect(t *testing.T) {
	dir, at := t.TempDir(), time.UnixMilli(1_700_000_000_000)
	o := Options{Retention: Retention{MaxReceipts: 100}}
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	stream, _, _ := l.Stream("s")
	for seq := uint64(1); seq <= 8; seq++ {
		m := numbered(seq, 20)
		m.Accepted = at
		switch seq {
		case 2:
			m.Stream, m.StreamSeq, m.Expires = stream, 7, at.Add(time.Hour)
		case 3:
			m.Key = "key"
		case 4:
			m.Priority = Urgent
		case 5:
			m.OnSessionLost = Republish
		case 7:
			m.OnSessionLost = FailInFlight
		}
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
	}
	l.ResetSession("c")
	l.Seen(77)
	l.Release(5)
	l.SetSent(Normal, 6)
	l.Done(6, Result{Kind: Refused, Reason: 0x97})
	l.Done(7, Result{Kind: DeadLettered, Reason: 0x99})
	l.Done(8, Result{Kind: Acked})
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	check := func(in *Inspection) {
		t.Helper()
		s := in.Stats
		if s.Accepted != 8 || s.Pending != 5 || s.PendingOf[Urgent] != 1 || s.Refused != 1 || s.Acked != 1 || s.DeadLettered != 1 || s.DeadLetters != 1 || s.Corruptions+s.TornTails != 0 {
			t.Errorf("%+v", s)
		}
		if in.LastSeq != 8 || in.Epoch != l.Epoch() || in.NewEpoch || in.Boot != 1 || !in.Session || in.Sent[Normal] != 6 || in.Clock.Before(at) {
			t.Errorf("%+v", in)
		}
		if !slices.Equal(in.SeenIDs, []uint16{77}) || !slices.Equal(in.Streams, []NamedStream{{"s", 1, 7}}) {
			t.Errorf("%v %v", in.SeenIDs, in.Streams)
		}
		if len(in.Segments) != 1 || len(in.Missing)+len(in.Corruptions)+len(in.Copies)+len(in.Others) != 0 {
			t.Fatalf("%+v", in)
		}
		f := in.Segments[0]
		if f.Number != 1 || f.File != segmentName(dir, 1) || f.Version != FormatVersion || f.Messages != 8 || f.Pending != 5 || f.Dead != 1 || f.Torn || f.Void || f.Used != in.Stats.DiskBytes || f.Used > f.Size {
			t.Errorf("%+v", f)
		}
		for which, want := range map[Which][]uint64{
			PendingMessages: {1, 2, 3, 4}, ReleasedMessages: {5}, DeadLetterMessages: {7}, DoneMessages: {6, 8},
			AllMessages: {1, 2, 3, 4, 5, 6, 7, 8}, 0: nil,
		} {
			if got := seqsOf(t, in, which); !slices.Equal(got, want) {
				t.Errorf("%d: %v, want %v", which, got, want)
			}
		}
		end := int64(headerSize)
		if err := in.Messages(AllMessages, func(m *StoredMessage) bool {
			want := numbered(m.Seq, 20)
			if m.ID != want.ID || !bytes.Equal(m.Packet, want.Packet) || !m.Accepted.Equal(at) || m.Offset < end || m.Segment != 1 || m.Moved {
				t.Errorf("%+v", m)
			}
			end = m.Offset + m.Length
			if m.Released != (m.Seq == 5) || m.Dead != (m.Seq == 7) || (m.Key == "key") != (m.Seq == 3) || (m.Priority == Urgent) != (m.Seq == 4) {
				t.Errorf("%+v", m)
			}
			if (m.Seq == 2) != (m.Stream == "s" && m.StreamSeq == 7 && m.Expires.Equal(at.Add(time.Hour))) {
				t.Errorf("%+v", m)
			}
			if want := map[uint64]SessionLostPolicy{5: Republish, 7: FailInFlight}[m.Seq]; m.OnSessionLost != want {
				t.Errorf("message %d has policy %v for a lost session, want %v", m.Seq, m.OnSessionLost, want)
			}
			want6 := map[uint64]Result{6: {Refused, 0x97}, 7: {DeadLettered, 0x99}, 8: {Kind: Acked}}
			if m.Result != want6[m.Seq] || m.Ended.IsZero() != (m.Result.Kind == 0) {
				t.Errorf("%+v", m)
			}
			var one StoredMessage
			if ok, err := in.Message(m.Seq, &one); !ok || err != nil || !reflect.DeepEqual(&one, m) {
				t.Errorf("%+v, %v, one by one %+v", m, err, one)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if ok, err := in.Message(9, &StoredMessage{}); ok || err != nil {
			t.Errorf("a ninth message: %v", err)
		}
	}
	before := image(t, dir)
	in := inspect(t, dir, nil)
	if !in.InUse || in.PID != os.Getpid() {
		t.Errorf("in use: %v, by %d, not %d", in.InUse, in.PID, os.Getpid())
	}
	check(in)
	if after := image(t, dir); !maps.Equal(before, after) {
		t.Errorf("the folder was changed: %v, then %v", before, after)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if after := inspect(t, dir, nil); after.InUse {
		t.Error("in use after Close")
	} else {
		check(after)
	}
	again, err := Open(dir, o) // the lock was not taken, and the old segment goes
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	check(in) // a moment, whatever became of the files
	in.Close()
	if err := in.Messages(AllMessages, func(*StoredMessage) bool { return true }); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

// TestInspectLost: of a segment that is missing, the sequences are told, and a
// torn end is told from damage.
func TestInspectLost(t *testing.T) {
	whole := manySegments(t, 60)
	names, _ := whole.ReadDir("log")
	in := agree(t, whole.edit("log/"+names[1], nil), small)
	if len(in.Missing) != 1 || in.Stats.Lost == 0 || len(in.Corruptions) != 1 || in.Corruptions[0].Err != fs.ErrNotExist {
		t.Fatalf("%+v", in)
	}
	gap := in.Missing[0]
	all := seqsOf(t, inspect(t, "log", whole), AllMessages)
	want := slices.DeleteFunc(all, func(seq uint64) bool { return seq >= gap.From && seq <= gap.To })
	got := seqsOf(t, inspect(t, "log", whole.edit("log/"+names[1], nil)), AllMessages)
	if !slices.Equal(got, want) || len(got) == 60 {
		t.Errorf("%v are left, without %v", got, gap)
	}

	fsys, name := smallLog(t)
	data := fsys.data(name)
	last := slices.Clone(data)
	last[bytes.Index(last, numbered(10, 20).Packet)] ^= 1
	if in := agree(t, fsys.edit(name, last), Options{}); !slices.Equal(in.Missing, []SeqRange{{10, 10}}) || in.NewEpoch {
		t.Errorf("without the last message: %+v, new epoch: %v", in.Missing, in.NewEpoch)
	}
	fourth := slices.Clone(data)
	fourth[bytes.Index(fourth, numbered(4, 20).Packet)] ^= 1
	var m StoredMessage
	in = inspect(t, "log", fsys.edit(name, fourth))
	if ok, err := in.Message(4, &m); !ok || err != nil || m.Seq != 4 || m.Offset != 0 || m.Result != (Result{Refused, 0x97}) || len(in.Missing) > 0 {
		t.Errorf("done, and its record damaged: %+v, %v", m, err)
	}
	torn := inspect(t, "log", fsys.edit(name, data[:len(data)-5]))
	if s := torn.Segments[0]; !s.Torn || torn.Stats.TornTails != 1 || len(torn.Corruptions) > 0 || s.Used >= s.Size {
		t.Errorf("torn: %+v", torn)
	}
	half := inspect(t, "log", fsys.edit("log/0000000000000009.mlog", data[:70]))
	if n := len(half.Segments); n != 2 || !half.Segments[1].Void || !half.Segments[1].Torn || half.Segments[0].Void || half.Segments[0].Torn {
		t.Errorf("a segment that was hardly begun: %+v", half.Segments)
	}
}

// TestInspectFolders: what is in the folder besides, and folders that are none.
func TestInspectFolders(t *testing.T) {
	fsys, name := smallLog(t)
	in := inspect(t, "log", fsys.edit("log/notes.txt", nil).edit(name+".corrupt", []byte("x")).edit("log/1.mlog", []byte("y")).edit("log/LOCK", nil))
	if !slices.Equal(in.Copies, []string{name + ".corrupt"}) || !slices.Equal(in.Others, []string{"log/1.mlog"}) {
		t.Errorf("%+v", in)
	}
	dir := t.TempDir()
	empty := inspect(t, dir, nil)
	if empty.Epoch != 0 || empty.LastSeq != 0 || len(empty.Segments) != 0 || seqsOf(t, empty, AllMessages) != nil {
		t.Errorf("an empty folder: %+v", empty)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var folder *FolderError
	for _, name := range []string{file, filepath.Join(dir, "none")} {
		if _, err := Inspect(name, Options{}); !errors.As(err, &folder) || folder.Dir != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder was made")
	}
	newer := header{number: 1, epoch: 1, first: 1}.append(nil)
	newer[8]++
	newer = binary.LittleEndian.AppendUint32(newer[:60], crc32.Checksum(newer[:60], castagnoli))
	var version *VersionError
	if _, err := Inspect("log", Options{FS: fsys.edit(name, newer)}); !errors.As(err, &version) || version.File != name {
		t.Errorf("a newer version: %v", err)
	}
	var option *OptionError
	if _, err := Inspect("log", Options{FS: fsys, Limits: Limits{MaxBytes: -1}}); !errors.As(err, &option) {
		t.Errorf("a bad option: %v", err)
	}
}

// TestInspectReceipts: outcomes whose segment is gone, and those that are damaged.
func TestInspectReceipts(t *testing.T) {
	fsys, o := newMemFS(), small
	o.Retention.MaxReceipts = 1000
	l := open(t, fsys, o)
	for seq := uint64(1); seq <= 60; seq++ {
		if _, err := Append(l, numbered(seq, 300)); err != nil {
			t.Fatal(err)
		}
		if seq < 50 {
			l.Done(seq, Result{Kind: Acked})
		}
	}
	l.Close()
	in := inspect(t, "log", fsys)
	var seqs []uint64
	each := func(id [16]byte, r Receipt) bool {
		if id != numbered(r.Seq, 8).ID || r.Result.Kind != Acked || r.At.IsZero() {
			t.Errorf("%x: %+v", id, r)
		}
		seqs = append(seqs, r.Seq)
		return true
	}
	if err := in.EachReceipt(each); err != nil {
		t.Fatal(err)
	}
	if len(in.Receipts) == 0 || in.Receipts[0].Newest.IsZero() || uint64(len(seqs)) != in.Stats.Receipts || len(seqs) == 0 {
		t.Fatalf("%d receipts, %+v", len(seqs), in)
	}
	seqs = append(seqs, seqsOf(t, in, AllMessages)...)
	if slices.Sort(seqs); len(seqs) != 60 || seqs[0] != 1 || seqs[59] != 60 {
		t.Errorf("receipts and messages together: %v", seqs)
	}
	f := in.Receipts[0]
	data := slices.Clone(fsys.data(f.File))
	data[headerSize+3] ^= 1
	in = inspect(t, "log", fsys.edit(f.File, data))
	want := []Corruption{{File: f.File, Offset: headerSize, Length: receiptSize, Err: errReceipt}}
	if !slices.Equal(in.Corruptions, want) || in.Stats.Corruptions != 1 {
		t.Errorf("%+v", in.Corruptions)
	}
}

// TestInspectMoved: messages that compaction has written again come in their place.
func TestInspectMoved(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, small)
	var waiting []uint64
	for seq := uint64(1); l.Stats().Moved < 2; seq++ {
		if seq > 100_000 {
			t.Fatal("nothing was moved")
		}
		m := numbered(seq, 200)
		m.Key = fmt.Sprint(seq)
		if _, err := Append(l, m); err != nil {
			t.Fatal(err)
		}
		if seq%100 == 1 {
			waiting = append(waiting, seq)
		} else {
			l.Done(seq, Result{Kind: Acked})
		}
	}
	l.Close()
	moved := 0
	agree(t, fsys.killed(), small)
	in := inspect(t, "log", fsys.killed())
	if err := in.Messages(PendingMessages, func(m *StoredMessage) bool {
		if want := numbered(m.Seq, 200); !bytes.Equal(m.Packet, want.Packet) || m.Key != fmt.Sprint(m.Seq) {
			t.Errorf("%+v", m)
		}
		if m.Moved {
			moved++
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if got := seqsOf(t, in, PendingMessages); moved == 0 || !slices.Equal(got, waiting) {
		t.Errorf("%v, %d moved", got, moved)
	}
}

// TestInspectDamageIsBounded: not more is listed than fits, but all is counted.
func TestInspectDamageIsBounded(t *testing.T) {
	var in Inspection
	for i := range uint64(2 * maxInspected) {
		in.note(Corruption{})
		in.miss(3*i, 3*i+1)
		in.miss(3*i+1, 3*i+2)
	}
	if len(in.Corruptions) != maxInspected || len(in.Missing) != maxInspected || in.Missing[1] != (SeqRange{3, 4}) {
		t.Errorf("%d, %d, %v", len(in.Corruptions), len(in.Missing), in.Missing[1])
	}
}

func BenchmarkInspect(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(dir, Options{Sync: SyncNever})
	if err != nil {
		b.Fatal(err)
	}
	const n = 100_000
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := Append(l, numbered(seq, 256)); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		in, err := Inspect(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		count := 0
		if err := in.Messages(AllMessages, func(*StoredMessage) bool { count++; return true }); err != nil || count != n {
			b.Fatal(count, err)
		}
		in.Close()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "msg/s")
}
