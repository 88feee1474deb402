package callback_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

func TestTry_ReturnsPanicsAsErrors(t *testing.T) {
	if p := callback.Try(func() {}); p != nil {
		t.Errorf("no panic: %v", p)
	}
	p := callback.Try(func() { panic("boom") })
	if p == nil || p.Value != "boom" || !strings.Contains(string(p.Stack), "callback_test") {
		t.Fatalf("%+v", p)
	}
	if !strings.Contains(p.Error(), "boom") {
		t.Error(p)
	}
	if p := callback.Try(func() { panic(nil) }); p == nil {
		t.Error("panic(nil) was not noticed")
	}
}

func TestProtect_ReportsGoexit(t *testing.T) {
	exited := make(chan *callback.Panic, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		callback.Protect(runtime.Goexit, func(p *callback.Panic) { exited <- p })
		t.Error("Protect returned after Goexit")
	}()
	<-done
	if p := <-exited; p.Value != callback.ErrGoexit {
		t.Errorf("%v", p.Value)
	}
	never := func(*callback.Panic) { t.Error("exited was called without Goexit") }
	if p := callback.Protect(func() {}, never); p != nil {
		t.Error(p)
	}
	if p := callback.Protect(func() { panic(errors.New("x")) }, never); p == nil {
		t.Error("a panic was not returned")
	}
}

func TestGuard_KnowsItsOwnCallsOnly(t *testing.T) {
	var a, b callback.Guard
	if a.Inside() {
		t.Fatal("inside before any call")
	}
	a.Call(func() {
		if !a.Inside() || b.Inside() {
			t.Error("in a call of a: want inside of a, not of b")
		}
		a.Call(func() {})
		if !a.Inside() {
			t.Error("a nested call ended the outer one")
		}
		other := make(chan bool)
		go func() { other <- a.Inside() }()
		if <-other {
			t.Error("another goroutine is inside")
		}
	})
	if a.Inside() {
		t.Error("inside after the call")
	}
	a.Call(func() { panic("x") })
	if a.Inside() {
		t.Error("inside after a panic")
	}
}

func TestGuard_CallReturnsAfterGoexit(t *testing.T) {
	var g callback.Guard
	if p := g.Call(runtime.Goexit); p == nil || p.Value != callback.ErrGoexit {
		t.Errorf("%v", p)
	}
	if p := g.Call(func() { panic("boom") }); p == nil || p.Value != "boom" {
		t.Errorf("%v", p)
	}
	if p := g.Call(func() {}); p != nil {
		t.Errorf("%v", p)
	}
}

func TestGuard_CallReusesGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g callback.Guard
		defer g.End()
		used := map[string]bool{}
		name := func() string {
			var buf [64]byte
			return strings.Fields(string(buf[:runtime.Stack(buf[:], false)]))[1]
		}
		for range 1000 {
			g.Call(func() { used[name()] = true })
		}
		if len(used) != 1 {
			t.Errorf("%d goroutines for 1,000 calls", len(used))
		}
		g.Call(runtime.Goexit)
		g.Call(func() { used[name()] = true })
		if len(used) != 2 {
			t.Errorf("%d goroutines: want another one after Goexit", len(used))
		}
	})
}

// The bubble ends only when all goroutines have ended.
func TestGuard_EndLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g callback.Guard
		inside, leave := make(chan bool), make(chan bool)
		for range 20 {
			go g.Call(func() { inside <- true; <-leave })
		}
		for range 20 {
			<-inside
		}
		for range 19 {
			leave <- true
		}
		synctest.Wait()
		g.End()
		leave <- true // a call that is under way
		if p := g.Call(func() {}); p != nil {
			t.Error(p)
		}
	})
}

func BenchmarkGuardCall(b *testing.B) {
	var g callback.Guard
	defer g.End()
	b.ReportAllocs()
	for b.Loop() {
		g.Call(func() {})
	}
}
