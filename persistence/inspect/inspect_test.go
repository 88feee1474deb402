package inspect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// image returns everything that must not change: names, sizes, modes, times and contents.
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

// TestOpen checks that everything in a log is shown, for a folder that is in use and one that is
// not, and that nothing in the folder changes.
func TestOpen(t *testing.T) {
	dir, at := t.TempDir(), time.UnixMilli(1_700_000_000_000)
	o := persistence.Options{Retention: persistence.Retention{MaxReceipts: 100}}
	l, err := persistence.Open(dir, o)
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
			m.Priority = persistence.Urgent
		case 5:
			m.OnSessionLost = persistence.Republish
		case 7:
			m.OnSessionLost = persistence.FailInFlight
		}
		if _, err := persistence.Append(l, m); err != nil {
			t.Fatal(err)
		}
	}
	l.ResetSession("c")
	l.Seen(77, 7)
	l.Release(5)
	l.SetSent(persistence.Normal, 6)
	l.Done(6, persistence.Result{Kind: persistence.Refused, Reason: 0x97})
	l.Done(7, persistence.Result{Kind: persistence.DeadLettered, Reason: 0x99})
	l.Done(8, persistence.Result{Kind: persistence.Acked})
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	check := func(in *inspect.Folder) {
		t.Helper()
		s := in.Stats
		if s.Accepted != 8 || s.Pending != 5 || s.PendingOf[persistence.Urgent] != 1 || s.Refused != 1 || s.Acked != 1 || s.DeadLettered != 1 || s.DeadLetters != 1 || s.Corruptions+s.TornTails != 0 {
			t.Errorf("%+v", s)
		}
		if in.LastSeq != 8 || in.Epoch != l.Epoch() || in.Renewal != persistence.Continued || in.Boot != 1 || !in.Session || in.Sent[persistence.Normal] != 6 || in.Clock.Before(at) {
			t.Errorf("%+v", in)
		}
		if !slices.Equal(in.SeenIDs, []uint16{77}) || !slices.Equal(in.Streams, []inspect.Stream{{"s", 1, 7}}) {
			t.Errorf("%v %v", in.SeenIDs, in.Streams)
		}
		if len(in.Segments) != 1 || len(in.Missing)+len(in.Corruptions)+len(in.Copies)+len(in.Others) != 0 {
			t.Fatalf("%+v", in)
		}
		f := in.Segments[0]
		if f.Number != 1 || f.File != segment.Name(dir, 1) || f.Version != persistence.FormatVersion || f.Messages != 8 || f.Pending != 5 || f.DeadLetters != 1 || f.Torn || f.Void || f.Used != in.Stats.DiskBytes || f.Used > f.Size {
			t.Errorf("%+v", f)
		}
		for which, want := range map[inspect.Filter][]uint64{
			inspect.Pending: {1, 2, 3, 4}, inspect.Released: {5}, inspect.DeadLetters: {7}, inspect.Done: {6, 8},
			inspect.All: {1, 2, 3, 4, 5, 6, 7, 8}, 0: nil,
		} {
			if got := seqsOf(t, in, which); !slices.Equal(got, want) {
				t.Errorf("%d: %v, want %v", which, got, want)
			}
		}
		end := int64(segment.HeaderSize)
		if err := in.Messages(inspect.All, func(m *inspect.Message) bool {
			want := numbered(m.Seq, 20)
			if m.ID != want.ID || !bytes.Equal(m.Packet, want.Packet) || !m.Accepted.Equal(at) || m.Offset < end || m.Segment != 1 || m.Moved {
				t.Errorf("%+v", m)
			}
			end = m.Offset + m.Length
			if m.Released != (m.Seq == 5) || m.DeadLetter != (m.Seq == 7) || (m.Key == "key") != (m.Seq == 3) || (m.Priority == persistence.Urgent) != (m.Seq == 4) {
				t.Errorf("%+v", m)
			}
			if (m.Seq == 2) != (m.Stream == "s" && m.StreamSeq == 7 && m.Expires.Equal(at.Add(time.Hour))) {
				t.Errorf("%+v", m)
			}
			if want := map[uint64]persistence.SessionLostPolicy{5: persistence.Republish, 7: persistence.FailInFlight}[m.Seq]; m.OnSessionLost != want {
				t.Errorf("message %d has policy %v for a lost session, want %v", m.Seq, m.OnSessionLost, want)
			}
			want6 := map[uint64]persistence.Result{6: {Kind: persistence.Refused, Reason: 0x97}, 7: {Kind: persistence.DeadLettered, Reason: 0x99}, 8: {Kind: persistence.Acked}}
			if m.Result != want6[m.Seq] || m.Ended.IsZero() != (m.Result.Kind == 0) {
				t.Errorf("%+v", m)
			}
			var one inspect.Message
			if ok, err := in.Message(m.Seq, &one); !ok || err != nil || !reflect.DeepEqual(&one, m) {
				t.Errorf("%+v, %v, one by one %+v", m, err, one)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if ok, err := in.Message(9, &inspect.Message{}); ok || err != nil {
			t.Errorf("a ninth message: %v", err)
		}
	}
	before := image(t, dir)
	in := look(t, dir, nil)
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
	if after := look(t, dir, nil); after.InUse {
		t.Error("in use after Close")
	} else {
		check(after)
	}
	again, err := persistence.Open(dir, o) // Open did not lock the folder; this removes the old segment
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	check(in) // it still shows the earlier state
	in.Close()
	if err := in.Messages(inspect.All, func(*inspect.Message) bool { return true }); err != persistence.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

// TestOpen_Missing checks that the sequences of a missing segment are listed, and that a torn end
// does not count as damage.
func TestOpen_Missing(t *testing.T) {
	whole := manySegments(t)
	names := names(whole)
	in := agree(t, edit(whole, names[1], nil), small)
	if len(in.Missing) != 1 || in.Stats.Lost == 0 || len(in.Corruptions) != 1 || in.Corruptions[0].Err != fs.ErrNotExist {
		t.Fatalf("%+v", in)
	}
	gap := in.Missing[0]
	all := seqsOf(t, look(t, "log", whole), inspect.All)
	want := slices.DeleteFunc(all, func(seq uint64) bool { return seq >= gap.From && seq <= gap.To })
	got := seqsOf(t, look(t, "log", edit(whole, names[1], nil)), inspect.All)
	if !slices.Equal(got, want) || len(got) == 60 {
		t.Errorf("%v are left, without %v", got, gap)
	}

	disk, name := smallLog(t)
	data := disk.Files()[name]
	last := slices.Clone(data)
	last[bytes.Index(last, numbered(10, 20).Packet)] ^= 1
	if in := agree(t, edit(disk, name, last), persistence.Options{}); !slices.Equal(in.Missing, []inspect.Range{{10, 10}}) || in.Renewal != persistence.Continued {
		t.Errorf("without the last message: %+v, %v", in.Missing, in.Renewal)
	}
	fourth := slices.Clone(data)
	fourth[bytes.Index(fourth, numbered(4, 20).Packet)] ^= 1
	var m inspect.Message
	in = look(t, "log", edit(disk, name, fourth))
	if ok, err := in.Message(4, &m); !ok || err != nil || m.Seq != 4 || m.Offset != 0 || m.Result != (persistence.Result{Kind: persistence.Refused, Reason: 0x97}) || len(in.Missing) > 0 {
		t.Errorf("done, and its record damaged: %+v, %v", m, err)
	}
	torn := look(t, "log", edit(disk, name, data[:len(data)-5]))
	if s := torn.Segments[0]; !s.Torn || torn.Stats.TornTails != 1 || len(torn.Corruptions) > 0 || s.Used >= s.Size {
		t.Errorf("torn: %+v", torn)
	}
	half := look(t, "log", edit(disk, "log/0000000000000009.mlog", data[:70]))
	if n := len(half.Segments); n != 2 || !half.Segments[1].Void || !half.Segments[1].Torn || half.Segments[0].Void || half.Segments[0].Torn {
		t.Errorf("a segment that was hardly begun: %+v", half.Segments)
	}
}

// TestOpen_OtherFiles checks the list of other files, and paths that are not folders.
func TestOpen_OtherFiles(t *testing.T) {
	disk, name := smallLog(t)
	in := look(t, "log", edit(edit(disk, name+".corrupt", []byte("x")), "log/1.mlog", []byte("y")))
	if !slices.Equal(in.Copies, []string{name + ".corrupt"}) || !slices.Equal(in.Others, []string{"log/1.mlog"}) {
		t.Errorf("%+v", in)
	}
	dir := t.TempDir()
	empty := look(t, dir, nil)
	if empty.Epoch != 0 || empty.LastSeq != 0 || len(empty.Segments) != 0 || seqsOf(t, empty, inspect.All) != nil {
		t.Errorf("an empty folder: %+v", empty)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var folder *persistence.FolderError
	for _, name := range []string{file, filepath.Join(dir, "none")} {
		if _, err := inspect.Open(name, persistence.Options{}); !errors.As(err, &folder) || folder.Dir != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the folder was made")
	}
	newer := segment.Header{Number: 1, Epoch: 1, First: 1}.Append(nil)
	newer[8]++
	newer = binary.LittleEndian.AppendUint32(newer[:60], record.CRC(newer[:60]))
	var version *persistence.VersionError
	if _, err := inspect.Open("log", persistence.Options{FS: edit(disk, name, newer)}); !errors.As(err, &version) || version.File != name {
		t.Errorf("a newer version: %v", err)
	}
	var option *persistence.OptionError
	if _, err := inspect.Open("log", persistence.Options{FS: disk, Limits: persistence.Limits{MaxBytes: -1}}); !errors.As(err, &option) {
		t.Errorf("a bad option: %v", err)
	}
}

// TestEachReceipt checks the receipts of messages whose segment was removed, and damaged receipts.
func TestEachReceipt(t *testing.T) {
	disk, o := faultfs.New(), small
	o.Retention.MaxReceipts = 1000
	l := open(t, disk, o)
	for seq := uint64(1); seq <= 60; seq++ {
		if _, err := persistence.Append(l, numbered(seq, 300)); err != nil {
			t.Fatal(err)
		}
		if seq < 50 {
			l.Done(seq, persistence.Result{Kind: persistence.Acked})
		}
	}
	l.Close()
	in := look(t, "log", disk)
	var seqs []uint64
	each := func(id [16]byte, r persistence.Receipt) bool {
		if id != numbered(r.Seq, 8).ID || r.Result.Kind != persistence.Acked || r.At.IsZero() {
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
	seqs = append(seqs, seqsOf(t, in, inspect.All)...)
	if slices.Sort(seqs); len(seqs) != 60 || seqs[0] != 1 || seqs[59] != 60 {
		t.Errorf("receipts and messages together: %v", seqs)
	}
	f := in.Receipts[0]
	data := slices.Clone(disk.Files()[f.File])
	data[segment.HeaderSize+3] ^= 1
	in = look(t, "log", edit(disk, f.File, data))
	want := []persistence.Corruption{{File: f.File, Offset: segment.HeaderSize, Length: receipts.Size, Err: receipts.ErrInvalid}}
	if !slices.Equal(in.Corruptions, want) || in.Stats.Corruptions != 1 {
		t.Errorf("%+v", in.Corruptions)
	}
}

// TestMessages_Moved checks that Messages returns messages that compaction has moved in order.
func TestMessages_Moved(t *testing.T) {
	disk := faultfs.New()
	l := open(t, disk, small)
	var waiting []uint64
	for seq := uint64(1); l.Stats().Moved < 2; seq++ {
		if seq > 100_000 {
			t.Fatal("nothing was moved")
		}
		m := numbered(seq, 200)
		m.Key = fmt.Sprint(seq)
		if _, err := persistence.Append(l, m); err != nil {
			t.Fatal(err)
		}
		if seq%100 == 1 {
			waiting = append(waiting, seq)
		} else {
			l.Done(seq, persistence.Result{Kind: persistence.Acked})
		}
	}
	l.Close()
	moved := 0
	agree(t, disk.Killed(), small)
	in := look(t, "log", disk.Killed())
	if err := in.Messages(inspect.Pending, func(m *inspect.Message) bool {
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
	if got := seqsOf(t, in, inspect.Pending); moved == 0 || !slices.Equal(got, waiting) {
		t.Errorf("%v, %d moved", got, moved)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l, err := persistence.Open(dir, persistence.Options{Sync: persistence.SyncNever})
	if err != nil {
		b.Fatal(err)
	}
	const n = 100_000
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := persistence.Append(l, numbered(seq, 256)); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		in, err := inspect.Open(dir, persistence.Options{})
		if err != nil {
			b.Fatal(err)
		}
		count := 0
		if err := in.Messages(inspect.All, func(*inspect.Message) bool { count++; return true }); err != nil || count != n {
			b.Fatal(count, err)
		}
		in.Close()
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "msg/s")
}
