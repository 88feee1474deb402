package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

var withReceipts = with(small, func(o *Options) { o.Retention.MaxReceipts = 1000 })

// receiptsLog returns a folder in which the results of the first n messages are in receipts files.
// Message n was refused with reason n if n is even, and acked otherwise.
func receiptsLog(t *testing.T, o Options, n uint64) *memFS {
	t.Helper()
	fsys := newMemFS()
	l := open(t, fsys, o)
	for seq := uint64(1); seq <= n; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, outcomeOf(seq)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fsys
}

func outcomeOf(seq uint64) Result {
	if seq%2 == 0 {
		return Result{Kind: Refused, Reason: byte(seq)}
	}
	return Result{Kind: Acked}
}

func receiptFiles(fsys *memFS) (names []string) {
	for name := range fsys.Files() {
		if strings.HasSuffix(name, receipts.Suffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// knows returns which of the first n messages have a receipt. Each receipt must be correct.
func knows(t *testing.T, l *Log, n uint64) (seqs []uint64) {
	t.Helper()
	for seq := uint64(1); seq <= n; seq++ {
		r, ok, err := l.Receipt(numbered(seq, 8).ID)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		if r.Seq != seq || r.Result != outcomeOf(seq) || r.At.IsZero() {
			t.Fatalf("message %d: %+v", seq, r)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// TestReceiptDamaged damages each receipt of a file in turn. The others must be found, the damage
// must be reported, and the file must stay.
func TestReceiptDamaged(t *testing.T) {
	const n = 40
	fsys := receiptsLog(t, withReceipts, n)
	name := receiptFiles(fsys)[1]
	whole := fsys.data(name)
	for at := segment.HeaderSize; at < len(whole); at += receipts.Size {
		lost := binary.LittleEndian.Uint64(whole[at+16:])
		data := slices.Clone(whole)
		data[at+17] ^= 4
		left := fsys.edit(name, data)
		var told []Corruption
		l := open(t, left, with(withReceipts, func(o *Options) { o.OnCorruption = func(c Corruption) { told = append(told, c) } }))
		if seqs := knows(t, l, n); len(seqs) != n-1 || slices.Contains(seqs, lost) {
			t.Fatalf("entry at %d, of message %d: known are %v", at, lost, seqs)
		}
		if len(told) == 0 || uint64(len(told)) != l.Stats().Corruptions || !bytes.Equal(left.data(name), data) {
			t.Fatalf("entry at %d: %+v", at, told)
		}
		for _, c := range told {
			if c.File != name || c.Offset != int64(at) || c.Length != receipts.Size {
				t.Fatalf("entry at %d: %+v", at, c)
			}
		}
		l.Close()
	}
}

// TestReceiptsUnfinished checks files that differ from their header. Such a file is copied,
// reported and removed. A file whose segment still exists was not finished, and is removed without
// a report.
func TestReceiptsUnfinished(t *testing.T) {
	const n = 40
	fsys := receiptsLog(t, withReceipts, n)
	name := receiptFiles(fsys)[0]
	whole := fsys.data(name)
	fewer := slices.Clone(whole)
	fewer[20]-- // the number of receipts, with a valid checksum
	binary.LittleEndian.PutUint32(fewer[60:], record.CRC(fewer[:60]))
	zeros := make([]byte, len(whole))
	for what, data := range map[string][]byte{
		"empty": {}, "half a header": whole[:30], "header only": whole[:segment.HeaderSize], "one entry less": whole[:len(whole)-receipts.Size],
		"cut in an entry": whole[:len(whole)-1], "longer": append(slices.Clone(whole), 0), "another count": fewer, "zeros": zeros,
	} {
		left := fsys.edit(name, data)
		var told []Corruption
		l := open(t, left, with(withReceipts, func(o *Options) { o.OnCorruption = func(c Corruption) { told = append(told, c) } }))
		if len(told) != 1 || told[0].File != name || !bytes.Equal(left.data(told[0].Copy), data) || left.data(name) != nil {
			t.Errorf("%s: %+v, files: %v", what, told, receiptFiles(left))
		}
		if seqs := knows(t, l, n); len(seqs) >= n || len(seqs) < n/2 {
			t.Errorf("%s: known are %v", what, seqs)
		}
		l.Close()

		names, _ := fsys.ReadDir("log")
		number := segment.ParseName(names[slices.IndexFunc(names, func(n string) bool { return strings.HasSuffix(n, segment.Suffix) })])
		left = fsys.edit(receipts.Name("log", number), data)
		l = open(t, left, withReceipts)
		if s, now := l.Stats(), left.data(receipts.Name("log", number)); s.Corruptions > 0 || now != nil && bytes.Equal(now, data) {
			t.Errorf("%s, its segment is there: %+v, files: %v", what, s, receiptFiles(left))
		}
		if seqs := knows(t, l, n); len(seqs) != n {
			t.Errorf("%s, its segment is there: known are %v", what, seqs)
		}
		l.Close()
	}
}

// TestReceiptsNewerVersion checks that a folder with a newer file is refused at each opening, and
// not changed.
func TestReceiptsNewerVersion(t *testing.T) {
	fsys := receiptsLog(t, withReceipts, 40)
	name := receiptFiles(fsys)[0]
	data := fsys.data(name)
	data[8] = FormatVersion + 1
	binary.LittleEndian.PutUint32(data[60:], record.CRC(data[:60]))
	fsys = fsys.edit(name, data)
	before := fsys.Files()
	for range 2 {
		_, err := Open("log", with(withReceipts, func(o *Options) { o.FS = fsys }))
		var version *VersionError
		if !errors.As(err, &version) || version.File != name || version.Version != FormatVersion+1 {
			t.Fatal(err)
		}
	}
	if !maps.EqualFunc(before, fsys.Files(), bytes.Equal) {
		t.Error("the folder was changed")
	}
}

// TestReceiptsByCount checks that at least MaxReceipts receipts are kept, and that the oldest files
// above that are removed.
func TestReceiptsByCount(t *testing.T) {
	const n = 200
	o := with(small, func(o *Options) { o.Retention.MaxReceipts = 20 })
	fsys := receiptsLog(t, o, n)
	l := open(t, fsys, o)
	defer l.Close()
	seqs := knows(t, l, n)
	if len(seqs) < 20 || len(seqs) > 50 || seqs[0] != n+1-uint64(len(seqs)) {
		t.Errorf("known are %v", seqs)
	}
	if files := receiptFiles(fsys); len(files) > 4 || uint64(len(seqs)) < l.Stats().Receipts || l.Stats().Receipts < 20 {
		t.Errorf("%d receipts, files: %v", l.Stats().Receipts, files)
	}
}

// TestReceiptsByAge checks that receipts older than ReceiptAge are not found, and that their files
// are removed when the next file is written.
func TestReceiptsByAge(t *testing.T) {
	const n = 40
	o := with(withReceipts, func(o *Options) { o.Retention.ReceiptAge = time.Hour })
	fsys := receiptsLog(t, o, n)
	l := open(t, fsys, o)
	defer l.Close()
	old, before := receiptFiles(fsys), len(knows(t, l, n))
	l.mu.Lock()
	l.state.ledger.Clock.Offset += time.Hour.Milliseconds() + 60_000
	l.mu.Unlock()
	inLog := uint64(0) // number of messages whose segment still exists
	for _, s := range l.state.catalog.Segments {
		inLog += uint64(len(s.Locs))
	}
	if seqs := knows(t, l, n); before != n || uint64(len(seqs)) > inLog {
		t.Errorf("%d were known, and after more than an hour %v; %d are in the log", before, seqs, inLog)
	}
	for seq := uint64(n + 1); seq <= 2*n; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, outcomeOf(seq)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range receiptFiles(fsys) {
		if slices.Contains(old[:len(old)-1], name) {
			t.Errorf("%s is still there", name)
		}
	}
	if seqs := knows(t, l, 2*n); len(seqs) < n || seqs[len(seqs)-1] != 2*n {
		t.Errorf("known are %v", seqs)
	}
}

// TestReceipt_NewestOfSameID checks that Receipt returns the newest of several messages with one
// ID, wherever they are stored.
func TestReceipt_NewestOfSameID(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, withReceipts)
	same := [16]byte{1, 2, 3}
	seq, others := uint64(0), uint64(100)
	for round := range 4 {
		for i := range 2 { // two messages in one segment
			var err error
			if seq, err = Append(l, &Message{ID: same, Packet: make([]byte, 100)}); err != nil {
				t.Fatal(err)
			}
			if r, ok, err := l.Receipt(same); !ok || err != nil || r != (Receipt{Seq: seq}) {
				t.Fatalf("round %d: %+v, %t, %v: want that %d is pending", round, r, ok, err, seq)
			}
			if err := l.Done(seq, Result{Kind: Refused, Reason: byte(2*round + i)}); err != nil {
				t.Fatal(err)
			}
		}
		for range 12 { // fills more segments
			others++
			s, err := Append(l, numbered(others, 400))
			if err == nil {
				err = l.Done(s, Result{Kind: Acked})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want := Result{Kind: Refused, Reason: byte(2*round + 1)}
		for range 2 {
			if r, ok, err := l.Receipt(same); !ok || err != nil || r.Seq != seq || r.Result != want {
				t.Fatalf("round %d: %+v, %t, %v: want %d, %+v", round, r, ok, err, seq, want)
			}
			l.Close()
			l = open(t, fsys, withReceipts)
		}
	}
	if n := len(receiptFiles(fsys)); n < 4 {
		t.Errorf("only %d files", n)
	}
	l.Close()
}
