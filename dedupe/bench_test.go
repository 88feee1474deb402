package dedupe

import (
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("0192f0c4-7a3e-7bbb-8000-%012d", i)
	}
	return keys
}

// A full cache: each commit evicts.
func BenchmarkMemoryBeginCommit(b *testing.B) {
	keys := benchKeys(1 << 18)
	m := NewMemory(Options{})
	ctx := b.Context()
	for _, key := range keys[:1<<17] {
		c, _, _ := m.Begin(ctx, key, "owner")
		m.Commit(ctx, c)
	}
	b.ReportAllocs()
	for i := 1 << 17; b.Loop(); i++ {
		key := keys[i&(1<<18-1)]
		c, _, _ := m.Begin(ctx, key, "owner")
		m.Commit(ctx, c)
	}
}

func BenchmarkMemoryDuplicate(b *testing.B) {
	m := NewMemory(Options{})
	ctx := b.Context()
	c, _, _ := m.Begin(ctx, "key", "owner")
	m.Commit(ctx, c)
	b.ReportAllocs()
	for b.Loop() {
		m.Begin(ctx, "key", "owner")
	}
}

func BenchmarkFile(b *testing.B) {
	for _, sync := range []Sync{SyncEach, SyncNever} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", []string{"each", "never"}[sync], callers), func(b *testing.B) {
				keys := benchKeys(1 << 18)
				f := openOn(b, testPath(b), fsys.OS, Options{Sync: sync})
				next := make(chan string, 1024)
				done := make(chan struct{})
				for range callers {
					go func() {
						for key := range next {
							c, _, _ := f.Begin(b.Context(), key, "owner")
							f.Commit(b.Context(), c)
						}
						done <- struct{}{}
					}()
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					next <- keys[i&(1<<18-1)]
				}
				close(next)
				for range callers {
					<-done
				}
			})
		}
	}
}

func BenchmarkHash(b *testing.B) {
	topic, payload := []byte("plant/1/meter"), make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		Hash(topic, payload)
	}
}
