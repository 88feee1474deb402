package persistence

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
)

// TestPipeline checks the batches in a successful commit, in a failed one, and in a failed one that
// also ends the open batch.
func TestPipeline(t *testing.T) {
	var p pipeline
	var mu sync.Mutex
	p.begin(1, false)
	first := p.open
	first.buf = append(first.buf, "records"...)
	first.Add(index.Loc{}, 0, 0)
	p.begin(2, false)
	if p.open.id != 2 || p.find(1) != first || p.find(2) != p.open || p.find(3) != nil || len(p.messages(nil)) != 2 {
		t.Fatalf("%+v", p)
	}
	done := make(chan error)
	for range 3 {
		go func() {
			mu.Lock()
			first.wait(&mu)
			done <- first.err
		}()
	}
	for first.waiters.Load() < 3 {
		runtime.Gosched()
	}
	mu.Lock()
	p.finish(nil, false, 1<<10)
	mu.Unlock()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if p.written != 1 || p.durable != 0 || p.crowd != 4 || p.find(1) != nil || len(p.flight) != 0 {
		t.Errorf("%+v", p)
	}
	failed, second := errors.New("failed"), p.open
	p.begin(2, false)
	if p.open.First != 2 || len(p.open.buf) != 0 || cap(p.open.buf) == 0 || len(p.open.Locs) != 0 {
		t.Errorf("the buffers were not reused: %+v", p.open)
	}
	third := p.open
	p.begin(2, false) // a failed write ends the open batch too
	p.finish(failed, true, 1<<10)
	if p.written != 1 || second.err != failed || third.err != failed || p.durable != 1 {
		t.Errorf("%+v", p)
	}
	mu.Lock()
	second.wait(&mu) // it has ended: wait returns at once
	if !mu.TryLock() {
		t.Error("wait left with the lock held")
	}
}
