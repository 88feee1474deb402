package persistence_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

// benchPacket is the size of the packets in the benchmarks.
const benchPacket = 256

func benchLog(b *testing.B, o persistence.Options) *persistence.Log {
	b.Helper()
	o.Limits.MaxMessages, o.Limits.MaxBytes = 1<<30, 1<<40
	l, err := persistence.Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkAppend compares durable appends with one write and one fsync for each message. Only the
// ratio is meaningful, because the speed of fsync varies between disks and over time.
func BenchmarkAppend(b *testing.B) {
	b.Run("fsync-each", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		buf := make([]byte, benchPacket+33)
		for b.Loop() {
			if _, err := f.Write(buf); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	})
	for _, writers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := benchLog(b, persistence.Options{})
			b.ReportAllocs()
			appendFrom(b, l, writers)
			s := l.Stats()
			b.ReportMetric(float64(s.Accepted)/float64(s.Syncs), "msgs/sync")
			b.ReportMetric(float64(s.Accepted)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
	b.Run("memory", func(b *testing.B) {
		m := persistence.NewMemory(persistence.Options{})
		msg := &persistence.Message{Packet: make([]byte, benchPacket)}
		var e persistence.Entry
		b.ReportAllocs()
		for b.Loop() {
			seq, err := persistence.Append(m, msg)
			if err != nil {
				b.Fatal(err)
			}
			if ok, err := m.Next(&persistence.Cursor{seq - 1}, &e); !ok || err != nil {
				b.Fatal(ok, err)
			}
			if err := m.Done(e.Seq, persistence.Result{Kind: persistence.Acked}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func appendFrom(b *testing.B, s persistence.Store, writers int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			msg := &persistence.Message{Packet: make([]byte, benchPacket)}
			for left.Add(-1) >= 0 {
				seq, err := persistence.Append(s, msg)
				if err == nil {
					err = s.Done(seq, persistence.Result{Kind: persistence.Acked})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.StopTimer()
}

// BenchmarkEnqueue measures the part of an append that does not depend on the disk.
func BenchmarkEnqueue(b *testing.B) {
	l := benchLog(b, persistence.Options{Sync: persistence.SyncNever})
	msg := &persistence.Message{Packet: make([]byte, benchPacket)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Enqueue(context.Background(), msg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDrain reads messages back from the files, in order.
func BenchmarkDrain(b *testing.B) {
	const messages = 200_000
	l := benchLog(b, persistence.Options{})
	msg := &persistence.Message{Packet: make([]byte, benchPacket)}
	for range messages {
		if _, err := l.Enqueue(context.Background(), msg); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		b.Fatal(err)
	}
	var e persistence.Entry
	b.ReportAllocs()
	for b.Loop() {
		ok, err := l.Next(&persistence.Cursor{e.Seq}, &e)
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			e.Seq = 0
		}
	}
}

// BenchmarkRelease measures the records of a QoS 2 message, enqueued, released and done, while a
// window of other messages is released.
func BenchmarkRelease(b *testing.B) {
	const window = 1000
	l := benchLog(b, persistence.Options{Sync: persistence.SyncNever})
	msg := &persistence.Message{Packet: make([]byte, 16)}
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		t, err := l.Enqueue(context.Background(), msg)
		if err == nil {
			err = l.Release(t.Seq)
		}
		if n++; err == nil && n > window {
			err = l.Done(n-window, persistence.Result{Kind: persistence.Acked})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
