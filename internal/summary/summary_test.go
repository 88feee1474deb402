package summary_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/summary"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// lines records what a Summary writes, with the time since its start.
type lines struct {
	start time.Time
	mu    sync.Mutex
	list  []string
}

func (l *lines) write(kind int, more uint64, d string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprint(time.Since(l.start), " ", kind, " +", more, " ", d))
}

func (l *lines) want(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.list, want) {
		t.Errorf("written:\n%q\nwant:\n%q", l.list, want)
	}
}

// inBubble runs f with a Summary of two kinds.
func inBubble(t *testing.T, f func(t *testing.T, s *summary.Summary[string], l *lines)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lines{start: time.Now()}
		f(t, summary.New(2, l.write), l)
	})
}

func TestSummary_WritesTheFirstReportAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *summary.Summary[string], l *lines) {
		s.Add(0, "a")
		l.want(t, "0s 0 +0 a")
		s.Add(0, "b")
		time.Sleep(time.Second)
		s.Add(0, "c")
		s.Add(1, "other")
		time.Sleep(58 * time.Second)
		l.want(t, "0s 0 +0 a", "1s 1 +0 other")
		time.Sleep(time.Second)
		synctest.Wait()
		l.want(t, "0s 0 +0 a", "1s 1 +0 other", "1m0s 0 +2 c")
		if n, m := s.Total(0), s.Total(1); n != 3 || m != 1 {
			t.Errorf("Total = %d and %d, want 3 and 1", n, m)
		}
	})
}

func TestSummary_CountsContinuousReports(t *testing.T) {
	inBubble(t, func(t *testing.T, s *summary.Summary[string], l *lines) {
		s.Add(0, "0")
		time.Sleep(5 * time.Second)
		for i := range 18 { // at 5 s, 15 s, ... 175 s
			s.Add(0, fmt.Sprint(i+1))
			time.Sleep(10 * time.Second)
		}
		l.want(t, "0s 0 +0 0", "1m0s 0 +6 6", "2m0s 0 +6 12", "3m0s 0 +6 18")
	})
}

func TestSummary_IsFirstAgainAfterAQuietMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, s *summary.Summary[string], l *lines) {
		s.Add(0, "a")
		time.Sleep(summary.Interval)
		s.Add(0, "b") // nothing was counted
		s.Add(0, "c")
		time.Sleep(2*summary.Interval - time.Second)
		s.Add(0, "d") // 59 s after the summary
		time.Sleep(summary.Interval)
		synctest.Wait()
		l.want(t, "0s 0 +0 a", "1m0s 0 +0 b", "2m0s 0 +1 c", "3m0s 0 +1 d")
	})
}

func TestSummary_CloseWritesCountedReports(t *testing.T) {
	inBubble(t, func(t *testing.T, s *summary.Summary[string], l *lines) {
		s.Add(0, "a")
		s.Add(0, "b")
		s.Close()
		s.Close()
		l.want(t, "0s 0 +0 a", "0s 0 +1 b")
		s.Add(0, "c") // from a call that is in progress
		s.Add(0, "d")
		time.Sleep(time.Hour)
		l.want(t, "0s 0 +0 a", "0s 0 +1 b", "0s 0 +0 c", "0s 0 +0 d")
	})
}

// Close runs while a timer is about to write.
func TestSummary_CloseWaitsForATimer(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var written uint64
			var mu sync.Mutex
			s := summary.New(1, func(_ int, more uint64, _ int) {
				mu.Lock()
				defer mu.Unlock()
				written += max(more, 1)
			})
			s.Add(0, 1)
			s.Add(0, 2)
			time.Sleep(summary.Interval)
			s.Close()
			mu.Lock()
			defer mu.Unlock()
			if written != 2 {
				t.Errorf("%d reports were written, want 2", written)
			}
		})
	}
}

// When Close returns, a timer has finished writing.
func TestSummary_CloseWaitsForAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written atomic.Bool
		s := summary.New(1, func(_ int, more uint64, _ int) {
			if more > 0 {
				time.Sleep(time.Second)
				written.Store(true)
			}
		})
		s.Add(0, 1)
		s.Add(0, 2)
		time.Sleep(summary.Interval)
		synctest.Wait()
		s.Close()
		if !written.Load() {
			t.Error("Close has returned before the summary was written")
		}
	})
}

// The write function may report something itself, because no lock is held.
func TestSummary_WriteMayAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *summary.Summary[int]
		var calls atomic.Int32
		s = summary.New(2, func(int, uint64, int) {
			if calls.Add(1) < 100 {
				s.Add(0, 0)
				s.Add(1, 0)
			}
		})
		s.Add(0, 0)
		if n := calls.Load(); n != 2 { // one of each kind
			t.Errorf("%d calls, want 2", n)
		}
		time.Sleep(summary.Interval)
		synctest.Wait()
		if n := calls.Load(); n != 4 {
			t.Errorf("%d calls after the interval, want 4", n)
		}
		calls.Store(100)
		s.Close()
	})
}

// Every report is written once or counted once, with concurrent calls.
func TestSummary_LosesNoReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written uint64
		var mu sync.Mutex
		s := summary.New(1, func(_ int, more uint64, _ int) {
			mu.Lock()
			defer mu.Unlock()
			written += max(more, 1)
		})
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 1000 {
					s.Add(0, i)
					time.Sleep(time.Duration(g+1) * 100 * time.Millisecond)
				}
			})
		}
		time.Sleep(5*time.Minute + 100*time.Millisecond)
		s.Close()
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		if written != 8000 || s.Total(0) != 8000 {
			t.Errorf("%d of %d reports were written, want 8000 of 8000", written, s.Total(0))
		}
	})
}

// details are as large as those of the client.
type details [22]uint64

func TestSummary_CountsWithoutAllocating(t *testing.T) {
	s := summary.New(1, func(int, uint64, details) {})
	defer s.Close()
	s.Add(0, details{})
	s.Add(0, details{})
	if n := testing.AllocsPerRun(1000, func() { s.Add(0, details{}) }); n != 0 {
		t.Errorf("%v allocations for each counted report, want 0", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	s := summary.New(1, func(int, uint64, details) {})
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		s.Add(0, details{})
	}
}

func BenchmarkAddParallel(b *testing.B) {
	s := summary.New(1, func(int, uint64, details) {})
	defer s.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Add(0, details{})
		}
	})
}

func TestSummary_FlushWritesCountedReports(t *testing.T) {
	inBubble(t, func(t *testing.T, s *summary.Summary[string], l *lines) {
		s.Flush(0) // nothing to write
		s.Add(0, "a")
		s.Add(0, "b")
		s.Add(1, "other")
		time.Sleep(time.Second)
		s.Flush(0)
		s.Add(0, "c") // a first one
		s.Add(0, "d")
		s.Flush(0)
		s.Add(0, "e")
		s.Add(0, "f")
		time.Sleep(summary.Interval)
		synctest.Wait()
		l.want(t, "0s 0 +0 a", "0s 1 +0 other", "1s 0 +1 b", "1s 0 +0 c", "1s 0 +1 d", "1s 0 +0 e", "1m1s 0 +1 f")
		if n := s.Total(0); n != 6 {
			t.Errorf("Total = %d", n)
		}
		s.Close()
	})
}
