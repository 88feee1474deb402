package inspect_test

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// agree compares a Folder with the content that the next opening finds.
func agree(t *testing.T, fs *faultfs.FS, o persistence.Options) *inspect.Folder {
	t.Helper()
	before, ops := fs.Files(), fs.Len()
	o.FS = fs
	in, err := inspect.Open("log", o)
	if err != nil {
		t.Fatal(err)
	}
	waiting := seqsOf(t, in, inspect.Pending|inspect.Released)
	released := seqsOf(t, in, inspect.Released)
	all := seqsOf(t, in, inspect.All)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if ops != fs.Len() || !maps.EqualFunc(before, fs.Files(), bytes.Equal) {
		t.Fatal("the inspection changed something")
	}
	if !slices.IsSorted(all) || len(all) != len(slices.Compact(slices.Clone(all))) {
		t.Fatalf("out of order, or twice: %v", all)
	}
	var reports []persistence.Corruption
	o.OnCorruption = func(c persistence.Corruption) { reports = append(reports, c) }
	l := open(t, fs, o)
	defer l.Close()
	var e persistence.Entry
	var c persistence.Cursor
	var pending, pubrel []uint64
	for {
		ok, err := l.Next(&c, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if pending = append(pending, e.Seq); e.Released {
			pubrel = append(pubrel, e.Seq)
		}
		c.Pass(&e)
	}
	slices.Sort(pending)
	slices.Sort(pubrel)
	if !slices.Equal(pending, waiting) || !slices.Equal(pubrel, released) {
		t.Fatalf("%v are pending and %v released; the inspection has %v and %v", pending, pubrel, waiting, released)
	}
	got, want := in.Stats, l.Stats()
	for _, s := range []*persistence.Stats{&got, &want} {
		s.DiskBytes, s.Segments, s.Receipts, s.BytesWritten, s.PageBytes, s.Syncs = 0, 0, 0, 0, 0, 0
		s.Moved = 0 // compaction may have begun after the opening
	}
	if got != want {
		t.Fatalf("%+v, and opened %+v", got, want)
	}
	owner, known := l.Session()
	if in.LastSeq != l.LastSeq() || in.Boot+1 != l.Boot() || in.Session != known || in.ClientID != owner || !slices.Equal(in.SeenIDs, slices.Sorted(maps.Keys(l.SeenIDs()))) {
		t.Fatalf("%+v", in)
	}
	if (in.Epoch == l.Epoch()) == (in.Renewal != persistence.Continued || in.Epoch == 0) {
		t.Fatalf("epoch %d, %v, then %d", in.Epoch, in.Renewal, l.Epoch())
	}
	for p := range persistence.Priority(persistence.Priorities) {
		if in.Sent[p] != l.Sent(p) {
			t.Fatalf("priority %d: sent up to %d, and opened up to %d", p, in.Sent[p], l.Sent(p))
		}
	}
	for _, s := range in.Streams {
		if id, last, err := l.Stream(s.Name); id != s.ID || last != s.Last || err != nil {
			t.Fatalf("stream %+v was opened as %d up to %d, %v", s, id, last, err)
		}
	}
	for i := range reports {
		reports[i].Copy = ""
	}
	if !slices.Equal(in.Corruptions, reports) {
		t.Fatalf("%+v, and opened %+v", in.Corruptions, reports)
	}
	return in
}

// TestOpen_AgreesWithLog checks that a Folder shows the same content as the next opening of the log
// finds, after power failures at any moment and with damage anywhere.
func TestOpen_AgreesWithLog(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		disk, left := faultfs.New(), rnd.IntN(300)
		disk.SetFault(func(op faultfs.Op) (int, error) {
			if left--; left < 0 && op.Kind < faultfs.Open {
				return 0, fs.ErrPermission
			}
			return op.Len, nil
		})
		workload(disk, small, rnd)
		disk.SetFault(nil)
		agree(t, disk.PowerCut(rnd), small)
		killed := disk.Killed()
		agree(t, killed, small)
		names := names(killed)
		for range 20 {
			name := names[rnd.IntN(len(names))]
			data := slices.Clone(killed.Files()[name])
			if len(data) == 0 {
				continue
			}
			switch rnd.IntN(4) {
			case 0:
				data = nil
			case 1:
				data = data[:rnd.IntN(len(data))]
			case 2:
				at := rnd.IntN(len(data))
				clear(data[at:min(len(data), at+512)])
			case 3:
				data[rnd.IntN(len(data))] ^= 1 << rnd.IntN(8)
			}
			agree(t, edit(killed, name, data), small)
		}
	}
}

// FuzzInspect checks that Open returns for arbitrary bytes of a segment, changes nothing, and shows
// the same content as the next opening of the log finds. With sealed, everything that looks like a
// record gets a valid checksum first.
func FuzzInspect(f *testing.F) {
	disk, name := smallLog(f)
	whole := disk.Files()[name]
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
		agree(t, edit(faultfs.New(), "log/0000000000000001.mlog", data), persistence.Options{})
	})
}
