package persistence

import (
	"context"
	"errors"
	"testing"
)

// TestRoomOnDisk: Room waits for the disk as well.
func TestRoomOnDisk(t *testing.T) {
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
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Room(ctx, 500); !errors.Is(err, context.Canceled) {
		t.Fatalf("Room of a full disk = %v", err)
	}
	got := make(chan error)
	go func() { got <- l.Room(t.Context(), 500) }()
	for seq := range l.LastSeq() - 2 {
		if err := l.Done(seq+1, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.Sync(), <-got); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(l.LastSeq()+1, 500)); err != nil {
		t.Fatal(err)
	}
}
