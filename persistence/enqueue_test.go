package persistence

import (
	"errors"
	"testing"
)

// TestLog_AcceptsAfterAFullDisk: a segment whose messages have ended is room.
func TestLog_AcceptsAfterAFullDisk(t *testing.T) {
	o := small
	o.Limits.MaxDiskBytes = 32 << 10
	l := open(t, newMemFS(), o)
	defer l.Close()
	var err error
	for seq := uint64(1); err == nil; seq++ {
		_, err = Append(l, numbered(seq, 500))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	for seq := range l.LastSeq() - 2 {
		if err := l.Done(seq+1, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(l.LastSeq()+1, 500)); err != nil {
		t.Fatal(err)
	}
}
