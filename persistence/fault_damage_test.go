package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Tests with damaged files. Damage may remove the data that it hits. It must never create a message
// that was not stored, and it must be reported.

// varied is a folder with all kinds of records, and the model of its content.
type varied struct {
	o       Options
	files   map[string][]byte
	names   []string // ascending
	newest  string   // segment
	m       *model
	numbers map[uint64]uint64
}

// newVaried creates a folder with several segments and receipts. The last segments contain moved
// messages, including released messages and dead letters.
func newVaried(t *testing.T, size int) *varied {
	t.Helper()
	v := &varied{o: with(small, func(o *Options) { o.Retention.MaxReceipts, o.Retention.MaxDeadLetters = 1000, 5 }), numbers: map[uint64]uint64{}}
	p := newProgram(newMemFS(), v.o, newModel(v.o), 1, 0)
	a := p.actor(0)
	var errs []error
	for part := range 6 {
		errs = append(errs, p.open())
		for i := range 5 {
			as := looks{priority: Priority(i % Priorities)}
			if i == 1 {
				as.conflate = byte(1 + part)
			}
			errs = append(errs, a.append(size+5*i, "s", as))
		}
		if part == 1 {
			errs = append(errs, a.release(0), a.done(1, DeadLettered), a.done(1, Acked), a.raise(1), a.see(7, 7), a.sync())
		}
		if part >= 2 {
			errs = append(errs, a.done(2, Refused), a.done(2, Acked), a.sync())
		}
		if part == 3 || part == 4 {
			p.moveOldest()
		}
		for seq, x := range a.about {
			v.numbers[seq] = x.number
		}
		errs = append(errs, p.close())
	}
	v.m, v.files = p.now(), p.fsys.Files()
	v.m.epoch = 0 // damage may begin a new epoch
	v.names = slices.Sorted(maps.Keys(v.files))
	receipts := 0
	for _, name := range v.names {
		if strings.HasSuffix(name, segment.Suffix) {
			v.newest = name
		} else {
			receipts++
		}
	}
	if err := errors.Join(errs...); err != nil || p.moved == 0 || receipts < 2 || len(v.names)-receipts < 3 {
		t.Fatalf("%v; %d moved, files: %v", err, p.moved, v.names)
	}
	return v
}

// moveOldest empties the oldest segment, although compaction is not due.
func (p *program) moveOldest() {
	r := segment.NewReader(p.l.o.FS, p.l.folder.dir, 4096)
	p.l.compactPart(p.l.state.catalog.Segments[0], r, 0)
	r.Close()
	p.l.removeDone()
}

// judge opens a folder with these files and checks its content. If silent is true, damage need not
// be reported.
func (v *varied) judge(files map[string][]byte, silent bool) error {
	return v.judgeFS(onMemFS(faultfs.From(files)), files, silent)
}

func (v *varied) judgeFS(left *memFS, files map[string][]byte, silent bool) error {
	o, reports := v.o, []Corruption(nil)
	o.FS, o.OnCorruption = left, func(c Corruption) { reports = append(reports, c) }
	l, err := Open("log", o)
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := show(l, v.m)
	if err != nil {
		return err
	}
	if err := v.wrong(s); err != nil {
		return err
	}
	n := s.stats
	if uint64(len(reports)) != n.Corruptions {
		return fmt.Errorf("%d told, %d counted", len(reports), n.Corruptions)
	}
	for _, c := range reports {
		whole := files[c.File]
		if whole != nil && (c.Offset == 0 || strings.HasSuffix(c.File, segment.Suffix)) && !bytes.Equal(left.data(c.Copy), whole) {
			return fmt.Errorf("the copy is not the damaged file: %+v", c)
		}
	}
	s.stats.Corruptions, s.stats.Lost = 0, 0
	if missing := v.m.check(s); missing != nil && n.Corruptions+n.TornTails == 0 && !silent {
		return fmt.Errorf("not noticed: %w", missing)
	}
	return nil
}

// wrong returns an error if a message differs from the one that was stored under its sequence, or
// if a receipt differs from the result of its message.
func (v *varied) wrong(s *shown) error {
	for _, x := range append(slices.Clone(s.messages), s.dead...) {
		if uint64(x.n) != x.seq || v.numbers[x.seq] != x.number {
			return fmt.Errorf("message %d is %v, number %d", x.seq, x.key, x.number)
		}
	}
	for k, r := range s.receipts {
		if r.Seq != uint64(k.n) || r.Result.Kind != 0 && r.Result != v.m.receipts[k].Result && r.Result.Kind != Dropped {
			return fmt.Errorf("the receipt of %v is %+v, it was %+v", k, r, v.m.receipts[k])
		}
	}
	n := s.stats
	if n.Accepted != n.Acked+n.Refused+n.Expired+n.Dropped+n.DeadLettered+n.Pending || n.Pending != uint64(len(s.messages)) {
		return fmt.Errorf("the sum does not hold: %+v", n)
	}
	return nil
}

// with returns the files with one of them changed, or removed if data is nil.
func (v *varied) with(name string, data []byte) map[string][]byte {
	files := maps.Clone(v.files)
	if files[name] = data; data == nil {
		delete(files, name)
	}
	return files
}

// TestFlipEveryBit flips each bit of each file of a small log.
func TestFlipEveryBit(t *testing.T) {
	v := newVaried(t, 40)
	if err := v.judge(v.files, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range v.names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range v.files[name] {
				for bit := range 8 {
					data := slices.Clone(v.files[name])
					data[at] ^= 1 << bit
					if err := v.judge(v.with(name, data), false); err != nil {
						t.Fatalf("bit %d of byte %d: %v", bit, at, err)
					}
				}
			}
		})
	}
}

// TestZeroedBlocks overwrites a block with zeros, at each aligned place of each file. Zeros up to
// the end of the newest segment look like its end.
func TestZeroedBlocks(t *testing.T) {
	for _, size := range []int{40, 700} {
		v := newVaried(t, size)
		for _, block := range []int{512, 4096} {
			for _, name := range v.names {
				for at := 0; at < len(v.files[name]); at += block {
					data := slices.Clone(v.files[name])
					end := min(len(data), at+block)
					clear(data[at:end])
					if err := v.judge(v.with(name, data), name == v.newest && end == len(data)); err != nil {
						t.Fatalf("%s of %d bytes, [%d,%d): %v", name, len(data), at, end, err)
					}
				}
			}
		}
	}
}

// TestFilesMissing removes each file. The removal of the newest segment cannot be detected.
func TestFilesMissing(t *testing.T) {
	v := newVaried(t, 200)
	for _, name := range v.names {
		silent := name == v.newest || strings.HasSuffix(name, receipts.Suffix)
		if err := v.judge(v.with(name, nil), silent); err != nil {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

// TestFilesTwice copies each file to each other number, and to the place of each other file.
func TestFilesTwice(t *testing.T) {
	v := newVaried(t, 200)
	highest := segment.ParseName(strings.TrimPrefix(v.newest, "log/"))
	for _, name := range v.names {
		for number := uint64(1); number <= highest+3; number++ {
			to := segment.Name("log", number)
			if strings.HasSuffix(name, receipts.Suffix) {
				to = receipts.Name("log", number)
			}
			if to == name {
				continue
			}
			if err := v.judge(v.with(to, v.files[name]), false); err != nil {
				t.Errorf("%s also as %s: %v", name, to, err)
			}
		}
	}
}

// TestCopiesAreBounded checks that damage at each opening does not fill the disk with copies.
func TestCopiesAreBounded(t *testing.T) {
	v := newVaried(t, 200)
	left := onMemFS(faultfs.From(v.files))
	for number := uint64(100); number < 140; number++ {
		left = left.edit(receipts.Name("log", number), []byte("not receipts"))
		if err := v.judgeFS(left, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	copies := 0
	for name := range left.Files() {
		if strings.HasSuffix(name, recovery.CopySuffix) {
			copies++
		}
	}
	if copies != 16 {
		t.Errorf("%d copies", copies)
	}
}

// TestOpen_ReportsMissingOldestSegment removes the oldest segment and checks that the opening
// reports it.
func TestOpen_ReportsMissingOldestSegment(t *testing.T) {
	v := newVaried(t, 200)
	oldest := v.names[slices.IndexFunc(v.names, func(name string) bool { return strings.HasSuffix(name, segment.Suffix) })]
	left := onMemFS(faultfs.From(v.with(oldest, nil)))
	o, told := v.o, []Corruption(nil)
	o.OnCorruption = func(c Corruption) { told = append(told, c) }
	l := open(t, left, o)
	defer l.Close()
	if len(told) != 1 || told[0].File != oldest || told[0].Err != fs.ErrNotExist {
		t.Errorf("%+v", told)
	}
}
