package ordering_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/ordering"
)

// emit can call all methods, also for its own key. Messages that it pushes are emitted
// after it.
func TestEmit_CallsTheResequencer(t *testing.T) {
	p := newProbe(ordering.Options{})
	var emit func(string, bool)
	emit = func(v string, _ bool) {
		p.say("<" + v)
		switch v {
		case "k1:1":
			p.Push("k", 1, 3, ordering.ID{}, "k1:3", emit)
			p.Push("k", 1, 2, ordering.ID{}, "k1:2", emit)
			p.Push("other", 1, 1, ordering.ID{}, "other", emit)
			p.Push("k", 1, 9, ordering.ID{}, "k1:9", emit)
			p.Flush(emit)
			p.Expire(emit)
			p.Stats()
		case "k1:9":
			p.Forget("k")
			p.Push("k", 1, 1, ordering.ID{}, "again", emit)
		}
		p.say(">")
	}
	p.Push("k", 1, 1, ordering.ID{}, "k1:1", emit)
	p.wants(t, "<k1:1 <other > > <k1:2 > <k1:3 > gap(k/1 4-8 flushed) <k1:9 > <again >")
	if s := p.Stats(); s.Keys != 2 || s.Waiting != 0 || s.Held != 0 {
		t.Errorf("%+v", s)
	}
}

func TestForget_DuringEmit(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.Push("k", 1, 1, ordering.ID{}, "a", func(string, bool) { p.Forget("k") })
	if s := p.Stats(); s.Keys != 0 {
		t.Errorf("%+v, want no keys", s)
	}
}

func TestEmit_PanicLosesNoOtherMessage(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.in("k", 1, 1)
	p.in("k", 1, 3)
	p.told()
	func() {
		defer func() { recover() }()
		p.Push("k", 1, 2, ordering.ID{}, "bad", func(v string, late bool) {
			if v == "bad" {
				panic("bad handler")
			}
			p.emit(v, late)
		})
		t.Error("the panic did not come through")
	}()
	p.wants(t, "")
	p.in("k", 1, 4)
	p.wants(t, "k1:3 k1:4")
	p.in("k", 1, 6)
	p.Flush(p.emit)
	p.told()
	p.in("k", 1, 7)
	p.wants(t, "k1:7") // the key still works
}

// A message that another goroutine emits is emitted with the function of its own Push.
func TestEmit_LeavesMessagesToTheOtherGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ordering.NewResequencer[int](ordering.Options{})
		gate := make(chan struct{})
		var got []string
		go r.Push("k", 1, 1, ordering.ID{}, 1, func(v int, _ bool) { <-gate; got = append(got, fmt.Sprint("first ", v)) })
		synctest.Wait()
		if res := r.Push("k", 1, 2, ordering.ID{}, 2, func(v int, _ bool) { got = append(got, fmt.Sprint("second ", v)) }); res != ordering.Delivered {
			t.Errorf("%v", res)
		}
		if s := r.Stats(); s.Waiting != 1 {
			t.Errorf("%+v, want Waiting 1", s)
		}
		close(gate)
		synctest.Wait()
		if fmt.Sprint(got) != "[first 1 second 2]" {
			t.Errorf("%v", got)
		}
		if s := r.Stats(); s.Waiting != 0 {
			t.Errorf("%+v, want Waiting 0", s)
		}
	})
}

// Keys that are being emitted are not removed; afterwards the limit holds again.
func TestMaxKeys_DuringEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := ordering.NewResequencer[int](ordering.Options{MaxKeys: 2})
		gate := make(chan struct{})
		for i := range 5 {
			go r.Push(fmt.Sprint(i), 1, 1, ordering.ID{}, i, func(int, bool) { <-gate })
		}
		synctest.Wait()
		if s := r.Stats(); s.Keys != 5 {
			t.Errorf("%+v", s)
		}
		close(gate)
		synctest.Wait()
		if s := r.Stats(); s.Keys != 2 || s.EvictedKeys != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// Concurrent Pushes: one goroutine per key emits at a time, in order, each message once.
func TestPush_Concurrent(t *testing.T) {
	const keys, workers, n = 3, 6, 3000
	const all = keys * workers * n // a worker may be suspended with a number
	r := ordering.NewResequencer[uint64](ordering.Options{Start: ordering.FromOne, MaxHeldPerKey: all, MaxHeld: all, MaxIDs: all})
	var wg sync.WaitGroup
	var busy [keys]atomic.Int32
	var got [keys][]uint64 // guarded by one emitter per key; -race tests that
	emit := func(k int) func(uint64, bool) {
		return func(v uint64, _ bool) {
			if busy[k].Add(1) != 1 {
				t.Error("two emitters for one key")
			}
			got[k] = append(got[k], v)
			busy[k].Add(-1)
		}
	}
	var next [keys]atomic.Uint64
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for range n * keys {
				k := rnd.IntN(keys)
				seq := next[k].Add(1)
				for range 1 + rnd.IntN(2) {
					r.Push(fmt.Sprint(k), 1, seq, numbered(seq), seq, emit(k))
				}
				if rnd.IntN(100) == 0 {
					r.Expire(emit(k)) // no gap is old enough
				}
			}
		})
	}
	wg.Wait()
	for k := range keys {
		if want := next[k].Load(); uint64(len(got[k])) != want || !slices.IsSorted(got[k]) {
			t.Errorf("key %d: %d emitted, sorted %v, want %d", k, len(got[k]), slices.IsSorted(got[k]), want)
		}
	}
	if s := r.Stats(); s.Held != 0 || s.Waiting != 0 || s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
}
