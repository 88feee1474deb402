package ordering_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/ordering"
)

func number(t *testing.T, s *ordering.Sequencer, key string) (got uint64) {
	t.Helper()
	if err := s.Next(key, func(seq uint64) error { got = seq; return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSequencer_ConsecutivePerKey(t *testing.T) {
	s := ordering.NewSequencer(ordering.SequencerOptions{})
	for want := uint64(1); want < 4; want++ {
		for _, key := range []string{"a", "b", ""} {
			if got := number(t, s, key); got != want {
				t.Errorf("%q: %d, want %d", key, got, want)
			}
		}
	}
}

func TestSequencer_FailedUseKeepsTheNumber(t *testing.T) {
	s := ordering.NewSequencer(ordering.SequencerOptions{})
	refused := errors.New("refused")
	if err := s.Next("k", func(uint64) error { return refused }); err != refused {
		t.Fatal(err)
	}
	if s.Len() != 0 {
		t.Error("a key that never used a number takes up room")
	}
	func() {
		defer func() { recover() }()
		s.Next("k", func(uint64) error { panic("broken") })
	}()
	if got := number(t, s, "k"); got != 1 {
		t.Errorf("first number %d", got)
	}
	s.Next("k", func(uint64) error { return refused })
	if got := number(t, s, "k"); got != 2 {
		t.Errorf("second number %d", got)
	}
}

func TestSequencer_TooManyKeys(t *testing.T) {
	s := ordering.NewSequencer(ordering.SequencerOptions{MaxKeys: 2})
	number(t, s, "a")
	number(t, s, "b")
	err := s.Next("c", func(uint64) error { t.Error("called"); return nil })
	var full *ordering.TooManyKeysError
	if !errors.As(err, &full) || full.Limit != 2 {
		t.Fatalf("%v, want TooManyKeysError", err)
	}
	if got := number(t, s, "a"); got != 2 {
		t.Errorf("a known key: %d", got)
	}
	s.Forget("b")
	if got := number(t, s, "c"); got != 1 {
		t.Errorf("after Forget: %d", got)
	}
	s.Restore("d", 9) // beyond the limit
	if got := number(t, s, "d"); got != 10 || s.Len() != 3 {
		t.Errorf("restored: %d, %d keys", got, s.Len())
	}
}

func TestSequencer_RestoreNeverLowers(t *testing.T) {
	s := ordering.NewSequencer(ordering.SequencerOptions{})
	s.Restore("k", 41)
	s.Restore("k", 7)
	s.Restore("none", 0)
	if got := number(t, s, "k"); got != 42 || s.Len() != 1 {
		t.Errorf("%d with %d keys, want 42 with 1", got, s.Len())
	}
	s.Restore("k", math.MaxUint64-1)
	if got := number(t, s, "k"); got != math.MaxUint64 {
		t.Errorf("%d", got)
	}
	if err := s.Next("k", func(uint64) error { return nil }); !errors.Is(err, ordering.ErrExhausted) {
		t.Errorf("after the last number: %v", err)
	}
}

func TestSequencer_SerialPerKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ordering.NewSequencer(ordering.SequencerOptions{})
		gate, entered := make(chan struct{}), make(chan string, 3)
		for _, key := range []string{"a", "a", "b"} {
			go s.Next(key, func(seq uint64) error {
				entered <- fmt.Sprint(key, seq)
				<-gate
				return nil
			})
		}
		for len(entered) < 2 { // a1 and b1; the second a waits on a mutex
			runtime.Gosched()
		}
		got := map[string]bool{<-entered: true, <-entered: true}
		if !got["a1"] || !got["b1"] || len(entered) != 0 {
			t.Errorf("entered %v and %d more", got, len(entered))
		}
		close(gate)
		if last := <-entered; last != "a2" {
			t.Errorf("then %s", last)
		}
	})
}

func TestSequencer_Concurrent(t *testing.T) {
	s := ordering.NewSequencer(ordering.SequencerOptions{})
	refused := errors.New("refused")
	var seen []uint64 // guarded by Next, which is serial; -race tests that
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				s.Next("k", func(seq uint64) error {
					if i%3 == 0 {
						return refused
					}
					seen = append(seen, seq)
					return nil
				})
			}
		})
	}
	wg.Wait()
	for i, seq := range seen {
		if seq != uint64(i)+1 {
			t.Fatalf("number %d is %d", i+1, seq)
		}
	}
	if len(seen) != 8*333 {
		t.Errorf("%d numbers", len(seen))
	}
}
