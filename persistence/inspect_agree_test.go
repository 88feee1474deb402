package persistence

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// agree compares an inspection with what an opening finds after it.
func agree(t *testing.T, fsys *memFS, o Options) *Inspection {
	t.Helper()
	before, ops := fsys.Files(), fsys.ops
	o.FS = fsys
	in, err := Inspect("log", o)
	if err != nil {
		t.Fatal(err)
	}
	waiting := seqsOf(t, in, PendingMessages|ReleasedMessages)
	released := seqsOf(t, in, ReleasedMessages)
	all := seqsOf(t, in, AllMessages)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if ops != fsys.ops || !maps.EqualFunc(before, fsys.Files(), bytes.Equal) {
		t.Fatal("the inspection changed something")
	}
	if !slices.IsSorted(all) || len(all) != len(slices.Compact(slices.Clone(all))) {
		t.Fatalf("out of order, or twice: %v", all)
	}
	var reports []Corruption
	o.OnCorruption = func(c Corruption) { reports = append(reports, c) }
	l := open(t, fsys, o)
	defer l.Close()
	var e Entry
	for after := uint64(0); ; after = e.Seq {
		ok, err := l.Next(&Cursor{Normal: after, High: maxSequence, Urgent: maxSequence}, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if len(waiting) == 0 || waiting[0] != e.Seq || e.Released != (len(released) > 0 && released[0] == e.Seq) {
			t.Fatalf("%d is pending; the inspection has %v, and %v released", e.Seq, waiting, released)
		}
		if waiting = waiting[1:]; e.Released {
			released = released[1:]
		}
	}
	if len(waiting)+len(released) > 0 {
		t.Fatalf("%v, %v are not pending", waiting, released)
	}
	got, want := in.Stats, l.Stats()
	for _, s := range []*Stats{&got, &want} {
		s.DiskBytes, s.Segments, s.Receipts, s.BytesWritten, s.PageBytes, s.PageBytesDay, s.Syncs = 0, 0, 0, 0, 0, 0, 0
		s.Moved = 0 // compaction may have begun behind the opening
	}
	if got != want {
		t.Fatalf("%+v, and opened %+v", got, want)
	}
	owner, known := l.Session()
	if in.LastSeq != l.LastSeq() || in.Boot+1 != l.Boot() || in.Session != known || in.ClientID != owner || !slices.Equal(in.SeenIDs, l.SeenIDs()) {
		t.Fatalf("%+v", in)
	}
	if (in.Epoch == l.Epoch()) == (in.NewEpoch || in.Epoch == 0) {
		t.Fatalf("epoch %d, new %v, then %d", in.Epoch, in.NewEpoch, l.Epoch())
	}
	for p := range Priority(Priorities) {
		if in.Sent[p] != l.Sent(p) {
			t.Fatalf("priority %d: sent up to %d, and opened up to %d", p, in.Sent[p], l.Sent(p))
		}
	}
	i := 0
	eachStream(l, func(name string, id uint32, last uint64) bool {
		if i >= len(in.Streams) || in.Streams[i] != (NamedStream{name, id, last}) {
			t.Fatalf("stream %d: %q up to %d; the inspection has %v", id, name, last, in.Streams)
		}
		i++
		return true
	})
	for i := range reports {
		reports[i].Copy = ""
	}
	if !slices.Equal(in.Corruptions, reports) {
		t.Fatalf("%+v, and opened %+v", in.Corruptions, reports)
	}
	return in
}

// TestInspectAgreesWithOpen: after power cuts at any moment and with damage
// anywhere, an inspection shows what Open finds then.
func TestInspectAgreesWithOpen(t *testing.T) {
	o := small
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		fsys, left := newMemFS(), rnd.IntN(300)
		fsys.fault = func(_, _ string, n int) (int, error) {
			if left--; left < 0 {
				return 0, fs.ErrPermission
			}
			return n, nil
		}
		workload(fsys, o, seed)
		fsys.fault = nil
		agree(t, fsys.powerCut(rnd), o)
		killed := fsys.killed()
		agree(t, killed, o)
		names, _ := killed.ReadDir("log")
		for range 20 {
			name := "log/" + names[rnd.IntN(len(names))]
			data := slices.Clone(killed.data(name))
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
			agree(t, killed.edit(name, data), o)
		}
	}
}

// FuzzInspect: whatever the bytes of a segment are, an inspection ends, changes
// nothing and shows what Open finds. With sealed as in FuzzRecover.
func FuzzInspect(f *testing.F) {
	fsys, name := smallLog(&testing.T{})
	whole := fsys.data(name)
	f.Add(whole, false)
	f.Add(whole[:len(whole)/2], true)
	f.Add(whole[headerSize:], true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if len(b) > 1<<16 {
			return
		}
		data := slices.Clone(b)
		if sealed {
			data = append(header{number: 1, epoch: 5, first: 1}.append(nil), b...)
			sealAll(data)
		}
		agree(t, newMemFS().edit("log/0000000000000001.mlog", data), Options{})
	})
}

// sealAll gives everything in segment 1 that looks like a record its checksum.
func sealAll(data []byte) {
	for off := headerSize; off < len(data); {
		_, _, size, ok := parseTag(data[off:])
		if !ok || size > len(data)-off {
			off++
			continue
		}
		seal(data[off:off+size], 1, int64(off), data[off+checksumSize]&fenceBit != 0)
		off += size
	}
}
