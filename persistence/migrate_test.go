package persistence

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// TestFormatVersion1 opens a folder that the first release wrote, and continues to use it.
func TestFormatVersion1(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	for boot := uint64(3); boot < 5; boot++ {
		l, err := Open(dir, Options{Files: Files{SegmentBytes: 4096}})
		if err != nil {
			t.Fatal(err)
		}
		seqs, released := contents(t, l)
		want := []uint64{7}
		for seq := uint64(24); seq <= 41; seq++ {
			want = append(want, seq)
		}
		if !slices.Equal(seqs[:len(want)], want) || !slices.Equal(released, []uint64{25, 26}) || !maps.Equal(l.SeenIDs(), map[uint16]uint64{9: 0}) {
			t.Errorf("pending %v, released %v, seen %v", seqs, released, l.SeenIDs())
		}
		_, last, err := l.Stream("a/b")
		_, known := l.Session()
		if s := l.Stats(); err != nil || last != 40 || l.Boot() != boot || !known || s.Acked != 19 || s.Refused != 1 || s.Expired != 1 || s.Dropped != 1 || s.Corruptions != 0 {
			t.Errorf("stream %d, %v; boot %d; %+v", last, err, l.Boot(), s)
		}
		// The old release did not record which messages were sent.
		if boot == 3 && l.Sent(Normal) != l.LastSeq() {
			t.Errorf("sent up to %d of %d", l.Sent(Normal), l.LastSeq())
		}
		if _, err := Append(l, numbered(l.LastSeq()+1, 50)); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if copies, _ := filepath.Glob(filepath.Join(dir, "*"+recovery.CopySuffix)); len(copies) > 0 {
		t.Errorf("copies were kept: %v", copies)
	}
}

// TestFormatVersion2 opens a folder that was written before checkpoints recorded the writer. It is
// unknown how that process ended, so a new epoch begins, once.
func TestFormatVersion2(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v2")); err != nil {
		t.Fatal(err)
	}
	var epoch uint64
	for i, want := range []Renewal{TailLost, Continued} {
		l, err := Open(dir, Options{Files: Files{SegmentBytes: 4096}})
		if err != nil {
			t.Fatal(err)
		}
		seqs, _ := contents(t, l)
		pending := []uint64{7}
		for seq := uint64(32); seq <= l.LastSeq(); seq++ {
			pending = append(pending, seq)
		}
		released := l.Released()
		if !slices.Equal(seqs, pending) || len(released) != 2 || released[0].Seq != 33 || released[1].Seq != 32 || !maps.Equal(l.SeenIDs(), map[uint16]uint64{9: 0}) {
			t.Errorf("pending %v, released %v, seen %v", seqs, released, l.SeenIDs())
		}
		_, last, err := l.Stream("a/b")
		owner, known := l.Session()
		if s := l.Stats(); err != nil || last != 40 || owner != "c" || !known || s.Acked != 29 || s.DeadLetters != 1 || s.Corruptions != 0 || l.Sent(Normal) != 34 {
			t.Errorf("stream %d, %v; session of %q, %t; sent up to %d; %+v", last, err, owner, known, l.Sent(Normal), s)
		}
		if l.Renewal() != want || i > 0 && l.Epoch() != epoch {
			t.Errorf("%v, epoch %d, it was %d; want %v", l.Renewal(), l.Epoch(), epoch, want)
		}
		epoch = l.Epoch()
		if _, err := Append(l, numbered(l.LastSeq()+1, 50)); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFormatVersion3 opens a folder that was written before fingerprints were recorded. Its packet
// identifiers have no fingerprint. New ones have.
func TestFormatVersion3(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v3")); err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]uint64{9: 0, 300: 0, 77: 0}
	var key [16]byte
	for i := range 3 {
		l, err := Open(dir, Options{Files: Files{SegmentBytes: 4096}, Retention: Retention{MaxDeadLetters: 5}})
		if err != nil {
			t.Fatal(err)
		}
		seqs, s := entries(t, l)
		pending := []uint64{7, 32, 33, 34, 36, 37, 38, 39, 40, 35} // 35 is deferred, so it comes last
		released, deferred := l.Released(), l.Deferred()
		if !slices.Equal(seqs, pending) || len(released) != 2 || released[0].Seq != 33 || released[1].Seq != 32 || len(deferred) != 1 || deferred[0].Seq != 35 {
			t.Errorf("pending %v, released %v, deferred %v", seqs, released, deferred)
		}
		if !maps.Equal(l.SeenIDs(), seen) {
			t.Errorf("seen %v, want %v", l.SeenIDs(), seen)
		}
		if i > 0 && l.FingerprintKey() != key || l.FingerprintKey() == [16]byte{} {
			t.Errorf("the key is %x, it was %x", l.FingerprintKey(), key)
		}
		key = l.FingerprintKey()
		_, last, err := l.Stream("a/b")
		owner, known := l.Session()
		if err != nil || last != 40 || owner != "c" || !known || s.Acked != 29 || s.DeadLetters != 1 || s.Corruptions != 0 || l.Sent(Normal) != 34 || l.Renewal() != Continued {
			t.Errorf("stream %d, %v; session of %q, %t; sent up to %d; %v; %+v", last, err, owner, known, l.Sent(Normal), l.Renewal(), s)
		}
		seen[9], seen[uint16(i+1)] = uint64(100+i), uint64(200+i)
		if err := errors.Join(l.Seen(9, seen[9]), l.Seen(uint16(i+1), seen[uint16(i+1)]), l.Close()); err != nil {
			t.Error(err)
		}
	}
}
