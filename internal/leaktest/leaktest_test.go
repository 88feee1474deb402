package leaktest

import (
	"strings"
	"testing"
	"time"
)

func TestMain_ReportsALeftGoroutine(t *testing.T) {
	stop, started := make(chan struct{}), make(chan struct{})
	go leaky(started, stop)
	<-started
	var out strings.Builder
	if code := run(func() int { return 0 }, &out, time.Millisecond); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	if !strings.Contains(out.String(), "leaktest.leaky") {
		t.Errorf("the report does not name the goroutine:\n%s", &out)
	}
	close(stop)
	if left := Wait(timeout); len(left) != 0 {
		t.Errorf("still reported after it ended: %v", left)
	}
}

func TestMain_WaitsForALateGoroutine(t *testing.T) {
	go time.Sleep(5 * time.Millisecond)
	if code := run(func() int { return 0 }, t.Output(), timeout); code != 0 {
		t.Errorf("exit status %d, want 0", code)
	}
}

func TestMain_KeepsTheStatusOfAFailedRun(t *testing.T) {
	if code := run(func() int { return 3 }, t.Output(), 0); code != 3 {
		t.Errorf("exit status %d, want 3", code)
	}
}

func leaky(started, stop chan struct{}) {
	close(started)
	<-stop
}
