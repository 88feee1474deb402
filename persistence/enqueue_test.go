package persistence

import (
	"errors"
	"fmt"
	"testing"
)

// TestLog_AcceptsAfterMaxDiskBytes checks that a segment whose messages have ended makes room.
func TestLog_AcceptsAfterMaxDiskBytes(t *testing.T) {
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

// At MaxDiskBytes, a message is accepted as soon as all earlier messages have ended, whatever their
// sizes and places are. A packet that could never be stored is refused as too large.
func TestMaxDiskBytes_AcceptsAfterAllEnded(t *testing.T) {
	for name, open := range map[string]func(o Options) Store{
		"log":    func(o Options) Store { return open(t, newMemFS(), o) },
		"memory": func(o Options) Store { return NewMemory(o) },
	} {
		for _, size := range []int{300, 4_000, 12_000, 20_000, 31_000} {
			for _, buffer := range []int{4 << 10, 64 << 10} {
				t.Run(fmt.Sprintf("%s/%d/%d", name, size, buffer), func(t *testing.T) {
					s := open(Options{Limits: Limits{MaxDiskBytes: 64 << 10}, Files: Files{BufferBytes: buffer}})
					defer s.Close()
					last, ended := uint64(0), uint64(0)
					for range 500 {
						seq, err := Append(s, numbered(last+1, size))
						if errors.Is(err, ErrFull) {
							if ended == last {
								t.Fatalf("full with nothing pending: %v, %+v", err, s.Stats())
							}
							for ; ended < last; ended++ {
								if err := s.Done(ended+1, Result{Kind: Acked}); err != nil {
									t.Fatal(err)
								}
							}
							continue
						}
						if err != nil {
							t.Fatal(err)
						}
						last = seq
					}
					if ended == 0 {
						t.Error("the disk was never full")
					}
				})
			}
		}
		s := open(Options{Limits: Limits{MaxDiskBytes: 64 << 10, Reserved: 50}})
		defer s.Close()
		var large *PacketTooLargeError
		if _, err := Append(s, numbered(1, 17_000)); !errors.As(err, &large) || large.Limit != "MaxDiskBytes" || large.Max != 16<<10 {
			t.Errorf("%s: a packet of 17,000 bytes: %v", name, err)
		}
	}
}
