package persistence

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// TestNoSpaceForZeros checks a disk with room for the records, but not for the preallocated zeros.
// Appending must work.
func TestNoSpaceForZeros(t *testing.T) {
	fsys := newMemFS()
	failed := 0
	fsys.SetFault(func(op faultfs.Op) (int, error) {
		if op.Kind == faultfs.Write && len(bytes.Trim(op.Data, "\x00")) == 0 {
			failed++
			return op.Len / 2, syscall.ENOSPC
		}
		return op.Len, nil
	})
	l := open(t, fsys, small)
	for seq := uint64(1); seq <= 30; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
	}
	if failed == 0 || l.Stats().Segments != 4 {
		t.Errorf("%d failures, %d segments", failed, l.Stats().Segments)
	}
	for seed := range uint64(20) {
		l := open(t, fsys.powerCut(rand.New(rand.NewPCG(seed, 1))), small)
		if seqs, _ := contents(t, l); len(seqs) != 30 {
			t.Fatalf("%v are left", seqs)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// noReading makes all reads fail until heal is called.
func noReading(fsys *memFS) (heal func()) {
	fsys.SetFault(func(op faultfs.Op) (int, error) {
		if op.Kind == faultfs.Read {
			return 0, syscall.EIO
		}
		return op.Len, nil
	})
	return func() { fsys.SetFault(nil) }
}

// TestReadErrors checks that messages that cannot be read for some time are not given up, and that
// messages are accepted meanwhile.
func TestReadErrors(t *testing.T) {
	const n = 40
	o := with(small, func(o *Options) { o.Retention.MaxReceipts = 100 })
	fsys := newMemFS()
	l := open(t, fsys, o)
	defer l.Close()
	add := func(from, to uint64) {
		t.Helper()
		for seq := from; seq <= to; seq++ {
			if _, err := Append(l, numbered(seq, 400)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(1, n)
	if err := l.Done(2, Result{Kind: DeadLettered, Reason: 9}); err != nil {
		t.Fatal(err)
	}
	heal := noReading(fsys)
	var e Entry
	var unread *ReadError
	for range 3 {
		if ok, err := l.Next(&Cursor{}, &e); ok || !errors.As(err, &unread) || unread.Seq != 1 || !errors.Is(err, syscall.EIO) {
			t.Fatalf("Next: %t, %v", ok, err)
		}
	}
	if ok, err := l.Get(3, &e); ok || !errors.As(err, &unread) || unread.Seq != 3 {
		t.Errorf("Get: %t, %v", ok, err)
	}
	if _, ok, err := l.Receipt(numbered(4, 8).ID); ok || !errors.As(err, &unread) || unread.Seq != 4 {
		t.Errorf("Receipt: %t, %v", ok, err)
	}
	if err := l.DeadLetters(func(*Entry, byte) bool { return true }); !errors.As(err, &unread) || unread.Seq != 2 {
		t.Errorf("DeadLetters: %v", err)
	}
	add(n+1, n+5)
	heal()
	left := 0
	if err := l.DeadLetters(func(e *Entry, reason byte) bool { left++; return e.Seq == 2 && reason == 9 }); err != nil || left != 1 {
		t.Errorf("%d dead letters, %v", left, err)
	}
	seqs, _ := contents(t, l)
	if s := l.Stats(); len(seqs) != n+4 || s.Corruptions > 0 || s.Lost > 0 {
		t.Errorf("%v are left, %+v", seqs, s)
	}
}

// TestReadErrorsWhileMoving checks that messages that cannot be read are not lost, and that they
// are moved when they can be read again.
func TestReadErrorsWhileMoving(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, small)
	defer l.Close()
	settle := (&program{l: l}).settle
	heal := noReading(fsys)
	for seq := uint64(1); seq <= 60; seq++ {
		if _, err := Append(l, numbered(seq, 400)); err != nil {
			t.Fatal(err)
		}
		if seq > 1 {
			if err := l.Done(seq, Result{Kind: Acked}); err != nil {
				t.Fatal(err)
			}
		}
		settle()
	}
	if s := l.Stats(); s.Moved > 0 || s.Segments < 5 {
		t.Fatalf("%+v", s)
	}
	heal()
	if _, err := Append(l, numbered(61, 400)); err != nil {
		t.Fatal(err)
	}
	settle()
	seqs, _ := contents(t, l)
	if s := l.Stats(); s.Moved != 1 || s.Segments > 2 || len(seqs) != 2 || seqs[0] != 1 || s.Corruptions > 0 {
		t.Fatalf("%v are left, %+v", seqs, s)
	}
}

// TestReadErrorsAtOpening checks that read errors do not count as damage, and that the folder does
// not stay locked.
func TestReadErrorsAtOpening(t *testing.T) {
	fsys := manySegments(t, 60)
	before := len(fsys.Files())
	heal := noReading(fsys)
	for range 2 {
		_, err := Open("log", with(small, func(o *Options) { o.FS = fsys }))
		var folder *FolderError
		if !errors.As(err, &folder) || !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
	}
	if n := len(fsys.Files()); n != before {
		t.Errorf("%d files, there were %d", n, before)
	}
	heal()
	l := open(t, fsys, small)
	defer l.Close()
	if seqs, _ := contents(t, l); len(seqs) != 30 || l.Stats().Corruptions > 0 {
		t.Errorf("%v are left, %+v", seqs, l.Stats())
	}
}
