package benchmarks

import (
	"os"
	"testing"
	"time"
)

// openQueue opens a queue in a new folder. remove closes it and deletes the folder.
func openQueue(tb testing.TB, c contestant) (q queue, remove func()) {
	tb.Helper()
	dir, err := os.MkdirTemp(tb.TempDir(), "")
	if err != nil {
		tb.Fatal(err)
	}
	if q, err = c.open(dir); err != nil {
		tb.Fatalf("%s: %v", c.name, err)
	}
	return q, func() {
		if err := q.Close(); err != nil {
			tb.Errorf("%s: %v", c.name, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	}
}

// TestKeeps checks that each queue really does the measured work. After it was opened again, the
// queue must contain the appended messages in order, except those that were taken.
func TestKeeps(t *testing.T) {
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			const messages, taken = 600, 250
			dir := t.TempDir()
			q, err := c.open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := produce(q, producers, upTo(messages), nil); err != nil {
				t.Fatal(err)
			}
			check := checker{unordered: c.unordered}
			if n, err := q.Take(taken, check.visit); n != taken || err != nil {
				t.Fatal(n, err)
			}
			if err := q.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if q, err = c.open(dir); err != nil {
				t.Fatal(err)
			}
			if n, err := q.Take(messages, check.visit); n != messages-taken || err != nil {
				t.Fatal(n, err)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if check.err != nil {
				t.Fatal(check.err)
			}
		})
	}
}

// TestMixed checks that no message is lost while messages are appended and removed concurrently.
func TestMixed(t *testing.T) {
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			q, remove := openQueue(t, c)
			defer remove()
			if _, err := mixed(q, 300, c.unordered); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func BenchmarkEnqueue(b *testing.B) {
	for _, c := range contestants {
		b.Run(c.name, func(b *testing.B) {
			q, remove := openQueue(b, c)
			defer remove()
			b.ResetTimer()
			n, took, err := produce(q, producers, upTo(b.N), nil)
			report(b, float64(n)/took.Seconds(), err)
		})
	}
}

// BenchmarkDrain drains 16,000 messages each time. The file queue takes minutes.
func BenchmarkDrain(b *testing.B) {
	for _, c := range contestants {
		b.Run(c.name, func(b *testing.B) {
			fill := preload
			if c.lists {
				fill = func(q queue, n int) error { _, _, err := produce(q, 1, upTo(n), nil); return err }
			}
			var busy time.Duration
			for range b.N {
				q, remove := openQueue(b, c)
				if err := fill(q, backlog); err != nil {
					b.Fatal(err)
				}
				rate, err := drain(q, backlog, c.unordered)
				if err != nil {
					b.Fatal(err)
				}
				busy += time.Duration(backlog / rate * 1e9)
				remove()
			}
			report(b, float64(b.N)*backlog/busy.Seconds(), nil)
		})
	}
}

func BenchmarkMixed(b *testing.B) {
	for _, c := range contestants {
		b.Run(c.name, func(b *testing.B) {
			q, remove := openQueue(b, c)
			defer remove()
			b.ResetTimer()
			rate, err := mixed(q, b.N, c.unordered)
			report(b, rate, err)
		})
	}
}

func report(b *testing.B, rate float64, err error) {
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(rate, "msgs/s")
}
