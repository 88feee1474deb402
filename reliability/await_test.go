package reliability_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

func TestAwait(t *testing.T) {
	why := errors.New("shutting down")
	for _, c := range []struct {
		name            string
		timeout         time.Duration
		done, cancelled time.Duration // after which; 0: never
		want            error
		took            time.Duration
	}{
		{"done", time.Minute, time.Second, 0, nil, time.Second},
		{"timeout", time.Minute, 0, 0, &reliability.TimeoutError{}, time.Minute},
		{"cancelled", time.Minute, 0, time.Second, why, time.Second},
		{"no limit", 0, 48 * time.Hour, 0, nil, 48 * time.Hour},
		{"no limit but ctx", -1, 0, time.Hour, why, time.Hour},
		{"done late", time.Second, time.Minute, 0, &reliability.TimeoutError{}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done := make(chan struct{})
				if c.done > 0 {
					time.AfterFunc(c.done, func() { close(done) })
				}
				if c.cancelled > 0 {
					time.AfterFunc(c.cancelled, func() { cancel(why) })
				}
				synctest.Wait()
				start := time.Now()
				err := reliability.Await(ctx, c.timeout, done)
				if te, ok := c.want.(*reliability.TimeoutError); ok {
					if !errors.As(err, &te) || te.After != c.timeout {
						t.Fatalf("%v, want TimeoutError", err)
					}
				} else if err != c.want {
					t.Fatalf("%v, want %v", err, c.want)
				}
				if took := time.Since(start); took != c.took {
					t.Fatalf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

// A known outcome takes precedence over a context that has ended.
func TestAwait_PrefersTheOutcome(t *testing.T) {
	done := make(chan struct{})
	close(done)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := reliability.Await(ctx, 1, done); err != nil {
			t.Fatal(err)
		}
	}
}

// lateDone is a context that has ended. The outcome arrives while its error is read.
type lateDone struct {
	context.Context
	done chan struct{}
}

func (c lateDone) Err() error {
	close(c.done)
	return c.Context.Err()
}

func (c lateDone) Value(any) any { return nil } // so that context.Cause calls Err

func TestAwait_PrefersASimultaneousOutcome(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	if err := reliability.Await(lateDone{ctx, done}, time.Minute, done); err != nil {
		t.Fatal(err)
	}
}

func TestAwait_Allocations(t *testing.T) {
	done := make(chan struct{})
	close(done)
	if n := testing.AllocsPerRun(100, func() { reliability.Await(t.Context(), time.Minute, done) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTimeoutError_Text(t *testing.T) {
	err := error(&reliability.TimeoutError{After: 30 * time.Second})
	if !os.IsTimeout(err) {
		t.Error("os.IsTimeout is false")
	}
	for _, s := range []string{"30s", "unknown", "do not publish again"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func BenchmarkAwait(b *testing.B) {
	done := make(chan struct{}, 1)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		done <- struct{}{}
		reliability.Await(ctx, time.Minute, done)
	}
}
