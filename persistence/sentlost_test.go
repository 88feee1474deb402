package persistence

import (
	"fmt"
	"os"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// TestSentLost checks that SentLost is true from the opening that has lost messages until SetSent
// or ResetSession, across restarts and power failures.
func TestSentLost(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *Log) error
		want   bool
	}{
		"nothing":       {func(*Log) error { return nil }, true},
		"a message":     {func(l *Log) error { _, err := Append(l, &Message{Packet: []byte("p")}); return err }, true},
		"sent":          {func(l *Log) error { return l.SetSent(Normal, l.LastSeq()+5) }, false},
		"session reset": {func(l *Log) error { return l.ResetSession("c") }, false},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", killed: ", killed), func(t *testing.T) {
				disk := newMemFS()
				open := func(sync SyncPolicy) *Log {
					l, err := Open("log", Options{FS: disk, Sync: sync})
					if err != nil {
						t.Fatal(err)
					}
					return l
				}
				l := open(SyncInterval)
				if l.SentLost() {
					t.Error("a new log has lost nothing")
				}
				left := power(t, disk)
				l.Close()
				disk = left
				for range 2 {
					l = open(SyncEveryCommit)
					if !l.SentLost() {
						t.Fatal("after a power cut it is false")
					}
					l.Close()
				}
				l = open(SyncEveryCommit)
				if err := c.change(l); err != nil {
					t.Fatal(err)
				}
				if l.SentLost() != c.want {
					t.Errorf("it is %t", l.SentLost())
				}
				left = disk
				if killed {
					left = power(t, disk)
				}
				l.Close()
				disk = left
				l = open(SyncEveryCommit)
				defer l.Close()
				if l.SentLost() != c.want {
					t.Errorf("after a restart it is %t", l.SentLost())
				}
			})
		}
	}
}

// Each opening reports a damaged place that stays in the log. Only the first of them has lost
// messages.
func TestSentLost_OnceForEachDamage(t *testing.T) {
	dir, o := t.TempDir(), Options{Sync: SyncNever}
	o.Files.SegmentBytes = 64 << 10
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if _, err := Append(l, &Message{Packet: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	damage := func(number uint64) {
		t.Helper()
		name := segment.Name(dir, number)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[30_000] ^= 0xff
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(2)
	for n, want := range []bool{true, false, false, true, false} {
		if n == 3 {
			damage(3)
		}
		l, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if l.SentLost() != want || l.Stats().Corruptions == 0 {
			t.Errorf("opening %d: %t after %d damaged places", n, l.SentLost(), l.Stats().Corruptions)
		}
		if err := l.SetSent(Normal, l.LastSeq()+uint64(n)); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
