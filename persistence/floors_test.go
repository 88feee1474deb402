package persistence_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// floorsEnv enables the tests of speed. They need an otherwise idle machine, so they are not part
// of an ordinary run.
const floorsEnv = "MOORING_FLOORS"

// The least accepted speeds, and the highest accepted costs.
const (
	floorManyWriters = 0.8     // of the speed of the disk with the same bytes and fsyncs
	floorOneWriter   = 0.9     // of one write and one fsync per message
	floorAsync       = 400_000 // appends per second, with waiting later and SyncInterval
	mostAllocations  = 2       // for one such append
	mostAckBytes     = 24
)

const mostAttempts = 16 // failed attempts after which a floor counts as missed

// speed is the number of messages per second of the log, and of a plain file.
type speed struct{ log, disk float64 }

func (s speed) ratio() float64 { return s.log / s.disk }

// xDisk measures durable appends. Before and after them, it writes the same bytes to a plain file,
// in as many pieces with as many fsyncs. The speed of the disk is the better of these two. Only the
// ratio is meaningful, because the speed of a disk varies from second to second.
func xDisk(tb testing.TB, writers, messages int) speed {
	tb.Helper()
	perSecond := func(took time.Duration) float64 { return float64(messages) / took.Seconds() }
	_, bytes, syncs := appendsTook(tb, writers, messages) // keeps the disk busy, as in the measurements below
	before := plainTook(tb, bytes, syncs)
	took, bytes, syncs := appendsTook(tb, writers, messages)
	after := plainTook(tb, bytes, syncs)
	return speed{log: perSecond(took), disk: perSecond(min(before, after))}
}

func appendsTook(tb testing.TB, writers, messages int) (took time.Duration, bytes int64, syncs int) {
	tb.Helper()
	l := openForFloors(tb, persistence.Options{})
	before := l.Stats()
	var left atomic.Int64
	left.Store(int64(messages))
	errs := make([]error, writers)
	var group sync.WaitGroup
	begin := time.Now()
	for i := range writers {
		group.Go(func() {
			m := &persistence.Message{Packet: make([]byte, benchPacket)}
			for left.Add(-1) >= 0 && errs[i] == nil {
				_, errs[i] = persistence.Append(l, m)
			}
		})
	}
	group.Wait()
	took = time.Since(begin)
	after := l.Stats()
	if err := errors.Join(append(errs, l.Close())...); err != nil {
		tb.Fatal(err)
	}
	return took, after.DiskBytes - before.DiskBytes, int(after.Syncs - before.Syncs)
}

func plainTook(tb testing.TB, bytes int64, syncs int) time.Duration {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "plain"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, bytes/int64(syncs))
	begin := time.Now()
	for range syncs {
		if _, err := f.Write(piece); err != nil {
			tb.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			tb.Fatal(err)
		}
	}
	return time.Since(begin)
}

// async measures appends that are waited for later, under SyncInterval. It returns appends per
// second, and allocations for each.
func async(tb testing.TB) (perSecond, allocations float64) {
	tb.Helper()
	const messages, behind = 400_000, 4096
	for range 3 {
		l := openForFloors(tb, persistence.Options{Sync: persistence.SyncInterval})
		m := &persistence.Message{Packet: make([]byte, benchPacket)}
		var tickets [behind]persistence.Ticket // the next append waits for the oldest of them
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		for i := range messages + behind {
			at := &tickets[i%behind]
			if i >= behind {
				if err := l.Wait(context.Background(), *at); err != nil {
					tb.Fatal(err)
				}
			}
			if i < messages {
				var err error
				if *at, err = l.Enqueue(context.Background(), m); err != nil {
					tb.Fatal(err)
				}
			}
		}
		perSecond = max(perSecond, messages/time.Since(begin).Seconds())
		runtime.ReadMemStats(&after)
		allocations = float64(after.Mallocs-before.Mallocs) / messages
		if err := l.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return perSecond, allocations
}

func openForFloors(tb testing.TB, o persistence.Options) *persistence.Log {
	tb.Helper()
	l, err := persistence.Open(tb.TempDir(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	return l
}

// TestFloors repeats the measurements with longer and longer pauses before a floor counts as
// missed, because other processes may slow down the machine.
func TestFloors(t *testing.T) {
	if os.Getenv(floorsEnv) == "" {
		t.Skipf("speed can be judged on an idle machine only: set %s=1 there", floorsEnv)
	}
	reaches := func(measure func() (value, floor float64, unit string)) func(*testing.T) {
		return func(t *testing.T) {
			for attempt := 1; ; attempt++ {
				value, floor, unit := measure()
				t.Logf("%.2f %s", value, unit)
				if value >= floor {
					return
				}
				if attempt == mostAttempts {
					t.Fatalf("%.2f %s, the floor is %.2f", value, unit, floor)
				}
				time.Sleep(time.Duration(attempt) * 200 * time.Millisecond)
			}
		}
	}
	t.Run("64 writers", reaches(func() (float64, float64, string) {
		return xDisk(t, 64, 32_000).ratio(), floorManyWriters, "x-disk"
	}))
	t.Run("1 writer", reaches(func() (float64, float64, string) {
		return xDisk(t, 1, 800).ratio(), floorOneWriter, "x-disk"
	}))
	t.Run("async", reaches(func() (float64, float64, string) {
		perSecond, allocations := async(t)
		if allocations > mostAllocations {
			t.Errorf("%.2f allocations an append", allocations)
		}
		return perSecond, floorAsync, "appends/s"
	}))
}

// TestAckCost checks that an acknowledgement only adds a few bytes to the log. It must not cause
// other bytes to be written again, or an fsync of its own.
func TestAckCost(t *testing.T) {
	const messages = 100_000 // all in one segment, so that no segment is removed
	l := openForFloors(t, persistence.Options{})
	if err := fillLog(l, messages, make([]byte, benchPacket)); err != nil {
		t.Fatal(err)
	}
	before := l.Stats()
	for seq := range uint64(messages) {
		if err := l.Done(seq+1, persistence.Result{Kind: persistence.Acked}); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Stats().Syncs - before.Syncs; n > messages/10_000 { // one sync for each full buffer
		t.Errorf("%d fsyncs for %d acks", n, messages)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	after := l.Stats()
	written := float64(after.BytesWritten-before.BytesWritten) / messages
	grown := float64(after.DiskBytes-before.DiskBytes) / messages
	t.Logf("an ack: %.1f bytes of log, %.1f bytes written", grown, written)
	if written > mostAckBytes || grown > mostAckBytes {
		t.Errorf("an ack takes %.1f bytes of log, %.1f bytes written; want at most %d", grown, written, mostAckBytes)
	}
}

// BenchmarkXDisk reports the ratios that TestFloors checks.
func BenchmarkXDisk(b *testing.B) {
	for _, c := range []struct {
		name              string
		writers, messages int
	}{{"writers=64", 64, 32_000}, {"writers=1", 1, 800}} {
		b.Run(c.name, func(b *testing.B) {
			var best speed
			for b.Loop() {
				if s := xDisk(b, c.writers, c.messages); best.disk == 0 || s.ratio() > best.ratio() {
					best = s
				}
			}
			b.ReportMetric(best.ratio(), "x-disk")
			b.ReportMetric(best.log, "msgs/s")
			b.ReportMetric(0, "ns/op") // not meaningful here
		})
	}
	b.Run("async", func(b *testing.B) {
		var perSecond, allocations float64
		for b.Loop() {
			s, a := async(b)
			perSecond, allocations = max(perSecond, s), a
		}
		b.ReportMetric(perSecond, "msgs/s")
		b.ReportMetric(allocations, "allocs/msg")
		b.ReportMetric(0, "ns/op")
	})
}
