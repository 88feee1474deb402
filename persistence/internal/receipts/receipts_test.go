package receipts_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/memfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

func id(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], n*0x9e3779b97f4a7c15)
	return id
}

// write returns a file system with the receipts of 100 messages. Message 200 has the same ID as
// message 7.
func write(t testing.TB) (*faultfs.FS, receipts.File) {
	t.Helper()
	var list []receipts.Receipt
	for n := uint64(1); n <= 100; n++ {
		list = append(list, receipts.Receipt{ID: id(n), Seq: n, Result: record.Result{Kind: record.Acked, Reason: uint8(n)}, At: int64(1000 + n)})
	}
	list = append(list, receipts.Receipt{ID: id(7), Seq: 200, Result: record.Result{Kind: record.Dropped}, At: 900})
	f, content := receipts.Encode(5, list)
	return faultfs.From(map[string][]byte{receipts.Name("d", 5): content}), f
}

func TestFile_Find(t *testing.T) {
	fs, f := write(t)
	if f.Count != 101 || f.Newest != 1100 {
		t.Errorf("%+v", f)
	}
	for n := uint64(0); n <= 101; n++ {
		r, ok, err := f.Find(fs, "d", id(n), func(int64) { t.Error("damaged") })
		want := n
		if n == 7 {
			want = 200
		}
		if err != nil || ok != (n > 0 && n < 101) || ok && r.Seq != want {
			t.Errorf("message %d: %+v, %v, %v", n, r, ok, err)
		}
	}
}

// TestFile_Damage checks that each undamaged receipt is found.
func TestFile_Damage(t *testing.T) {
	fs, f := write(t)
	name := receipts.Name("d", 5)
	for at := segment.HeaderSize + 5; at < int(f.Bytes()); at += 10 * receipts.Size {
		content := slices.Clone(fs.Files()[name])
		content[at] ^= 1
		damaged := faultfs.From(map[string][]byte{name: content})
		lost, reports := 0, 0
		for n := uint64(1); n <= 100; n++ {
			_, ok, err := f.Find(damaged, "d", id(n), func(int64) { reports++ })
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				lost++
			}
		}
		if lost > 1 || reports == 0 {
			t.Errorf("damage at %d: %d messages are not found, %d reports", at, lost, reports)
		}
		seen, places := 0, []int64{}
		if err := f.Each(damaged, "d", func(*receipts.Receipt) bool { seen++; return true }, func(off int64) { places = append(places, off) }); err != nil {
			t.Fatal(err)
		}
		if want := int64(at - 5); seen != 100 || !slices.Equal(places, []int64{want}) {
			t.Errorf("damage at %d: %d receipts, damaged at %v", at, seen, places)
		}
	}
}

func TestLoad(t *testing.T) {
	fs, want := write(t)
	name := receipts.Name("d", 5)
	load := func(fs *faultfs.FS, number uint64) (receipts.File, error) {
		f, file, err := receipts.Load(fs, name, number)
		if file != nil {
			file.Close()
		}
		return f, err
	}
	if f, err := load(fs, 5); err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := load(fs, 6); err != receipts.ErrInvalid {
		t.Errorf("under the name of another segment: %v", err)
	}
	content := fs.Files()[name]
	for what, c := range map[string][]byte{"short": content[:len(content)-1], "long": append(slices.Clone(content), 0), "empty": nil, "a part of the header": content[:50]} {
		if _, err := load(faultfs.From(map[string][]byte{name: c}), 5); err != receipts.ErrInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	newer := slices.Clone(content)
	newer[8] = record.FormatVersion + 1
	binary.LittleEndian.PutUint32(newer[60:], record.CRC(newer[:60]))
	var version *segment.VersionError
	if _, err := load(faultfs.From(map[string][]byte{name: newer}), 5); !errors.As(err, &version) || version.File != name || version.Version != record.FormatVersion+1 {
		t.Errorf("of a newer version: %v", err)
	}
}

// TestSet_Trim checks which files are dropped at the limits on number and age.
func TestSet_Trim(t *testing.T) {
	for _, c := range []struct {
		max   uint64
		limit int64
		want  []uint64
	}{{30, 0, nil}, {29, 0, nil}, {21, 0, nil}, {20, 0, []uint64{1}}, {10, 0, []uint64{1, 2}}, {1, 0, []uint64{1, 2}}, {30, 100, nil}, {30, 101, []uint64{1}}, {30, 1000, []uint64{1, 2}}} {
		var s receipts.Set
		for n := range uint64(3) {
			s.Add(receipts.File{Segment: n + 1, Count: 10, Newest: 100 * int64(n+1)})
		}
		if got := s.Trim(c.max, c.limit); !slices.Equal(got, c.want) || s.Total != uint64(10*(3-len(c.want))) || !s.Has(3) {
			t.Errorf("%d receipts from %d on: dropped %v, want %v; %d are left", c.max, c.limit, got, c.want, s.Total)
		}
	}
}

// FuzzFile checks that reading ends for arbitrary content, and that the newest receipt of each ID
// is found if the receipts are in order. With sealed, the header and some receipts get valid
// checksums first.
func FuzzFile(f *testing.F) {
	var list []receipts.Receipt
	for n := range uint64(5) {
		list = append(list, receipts.Receipt{ID: id(n / 2), Seq: n + 1, Result: record.Result{Kind: record.Acked}, At: 1000})
	}
	_, whole := receipts.Encode(5, list)
	f.Add(whole, false)
	f.Add(whole, true)
	f.Add(whole[:segment.HeaderSize], true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, content []byte, sealed bool) {
		if len(content) > 1<<12 {
			return
		}
		x := receipts.File{Segment: 5, Count: uint64(max(len(content)-segment.HeaderSize, 0) / receipts.Size)}
		if sealed && len(content) >= segment.HeaderSize {
			_, header := receipts.Encode(5, make([]receipts.Receipt, x.Count))
			content = append(slices.Clone(header[:segment.HeaderSize]), content[segment.HeaderSize:x.Bytes()]...)
			for at := segment.HeaderSize; at < len(content); at += receipts.Size {
				if e := content[at:]; e[32]%4 > 0 {
					binary.LittleEndian.PutUint32(e[32:], record.CRC(e[:32]))
				}
			}
		}
		fs := memfs.New()
		file, _ := fs.Create(receipts.Name("d", 5))
		_, _ = file.WriteAt(content, 0)
		if h, _, err := receipts.Load(fs, receipts.Name("d", 5), 5); err == nil && h.Count != x.Count || sealed && len(content) >= segment.HeaderSize && err != nil {
			t.Fatalf("%d receipts, and the header says %+v, %v", x.Count, h, err)
		}
		damaged, sorted := 0, true
		var last receipts.Receipt
		newest, ids := map[[16]byte]uint64{}, [][16]byte{{}}
		if err := x.Each(fs, "d", func(r *receipts.Receipt) bool {
			if c := slices.Compare(last.ID[:], r.ID[:]); c > 0 || c == 0 && last.Seq > r.Seq {
				sorted = false
			}
			last, newest[r.ID], ids = *r, r.Seq, append(ids, r.ID)
			return true
		}, func(int64) { damaged++ }); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			want := newest[id]
			r, ok, err := x.Find(fs, "d", id, func(int64) {})
			if err != nil || ok && want == 0 || sorted && r.Seq != want {
				t.Fatalf("the newest of %x is %d; found %+v, %v, %v (%d damaged)", id, want, r, ok, err, damaged)
			}
		}
	})
}
