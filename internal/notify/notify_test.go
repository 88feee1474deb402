package notify_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/notify"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSignal_CountsSeveralSetsAsOne(t *testing.T) {
	s := notify.New()
	if isClosed(s) {
		t.Fatal("a new signal is set")
	}
	s.Set()
	s.Set()
	if !isClosed(s) || isClosed(s) {
		t.Error("two Sets did not count as one")
	}
	s.Set()
	s.Clear()
	if isClosed(s) {
		t.Error("still set after Clear")
	}
	s.Clear() // must not block
}

func TestBroadcast_WakesEverybodyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b notify.Broadcast
		b.Notify() // without waiters
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { <-b.Changed() })
		}
		synctest.Wait()
		before := b.Changed()
		b.Notify()
		wg.Wait()
		if !isClosed(before) || isClosed(b.Changed()) {
			t.Error("Notify must wake those who waited and nobody later")
		}
	})
}

func TestLatch_StaysSet(t *testing.T) {
	var l notify.Latch
	early := l.Done()
	if isClosed(l.Done()) || isClosed(early) {
		t.Fatal("the zero latch is set")
	}
	if !l.Set() || l.Set() {
		t.Error("only the first Set is the first")
	}
	if !isClosed(early) || !isClosed(l.Done()) {
		t.Error("the latch is not set after Set")
	}
	var late notify.Latch
	late.Set()
	if !isClosed(late.Done()) {
		t.Error("Done of a set latch is open")
	}
}
