package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

type refusal byte

func (r refusal) Error() string    { return reliability.ReasonName(byte(r)) }
func (r refusal) ReasonCode() byte { return byte(r) }

var errDown = errors.New("connection refused")

// try makes one attempt that ends with result.
func try(t *testing.T, b *reliability.Breaker, result error) {
	t.Helper()
	done, err := b.Allow()
	if err != nil {
		t.Fatalf("Allow: %v (%v)", err, b.State())
	}
	done(result)
}

func open(t *testing.T, b *reliability.Breaker) {
	t.Helper()
	for range 5 {
		try(t, b, errDown)
	}
	wantState(t, b, reliability.Open)
}

func wantState(t *testing.T, b *reliability.Breaker, want reliability.State) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("state %v, want %v", got, want)
	}
}

func wantOpenError(t *testing.T, b *reliability.Breaker, after time.Duration) {
	t.Helper()
	_, err := b.Allow()
	var oe *reliability.OpenError
	if !errors.As(err, &oe) || oe.RetryAfter != after {
		t.Fatalf("Allow: %v, want OpenError with RetryAfter %v", err, after)
	}
}

func TestBreaker_States(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := reliability.NewBreaker(reliability.BreakerOptions{})
		for range 4 {
			try(t, b, errDown)
		}
		try(t, b, nil) // resets the failures in a row
		for range 4 {
			try(t, b, errDown)
		}
		wantState(t, b, reliability.Closed)
		try(t, b, errDown)
		wantState(t, b, reliability.Open)
		wantOpenError(t, b, time.Minute+1)
		time.Sleep(59 * time.Second)
		wantOpenError(t, b, time.Second+1)
		time.Sleep(b.RetryAfter())

		// Three trials, not four.
		var trials []func(error)
		for range 3 {
			done, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			trials = append(trials, done)
		}
		wantState(t, b, reliability.HalfOpen)
		wantOpenError(t, b, 0)
		trials[0](nil)
		trials[1](nil)
		wantState(t, b, reliability.HalfOpen)
		trials[2](errDown) // one failure is enough
		wantState(t, b, reliability.Open)

		time.Sleep(b.RetryAfter())
		for range 3 {
			try(t, b, nil)
		}
		wantState(t, b, reliability.Closed)
		want := reliability.BreakerStats{Allowed: 4 + 1 + 5 + 3 + 3, Rejected: 3, Failed: 4 + 5 + 1, Opened: 2}
		if got := b.Stats(); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

// The results of attempts that began in an earlier state are ignored.
func TestBreaker_IgnoresResultsOfEarlierStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := reliability.NewBreaker(reliability.BreakerOptions{})
		var old []func(error)
		for range 10 {
			done, _ := b.Allow()
			old = append(old, done)
		}
		open(t, b)
		time.Sleep(b.RetryAfter())
		wantState(t, b, reliability.HalfOpen)
		for _, done := range old[:5] {
			done(nil)
		}
		wantState(t, b, reliability.HalfOpen)
		for _, done := range old[5:] {
			done(errDown)
		}
		wantState(t, b, reliability.HalfOpen)
		for range 3 {
			try(t, b, nil)
		}
		wantState(t, b, reliability.Closed)
	})
}

func TestBreaker_Judge(t *testing.T) {
	for _, c := range []struct {
		err  error
		want reliability.State
	}{
		{errDown, reliability.Open},
		{&reliability.TimeoutError{After: time.Second}, reliability.Open},
		{context.DeadlineExceeded, reliability.Open},
		{refusal(0x80), reliability.Open},
		{refusal(0x88), reliability.Open},
		{refusal(0x89), reliability.Open},
		{fmt.Errorf("publish: %w", refusal(0x97)), reliability.Open},
		{refusal(0x87), reliability.Closed},
		{refusal(0x90), reliability.Closed},
		{refusal(0x99), reliability.Closed},
		{refusal(0x95), reliability.Closed},
		{refusal(0x10), reliability.Closed},
		{context.Canceled, reliability.Closed},
		{fmt.Errorf("gone: %w", context.Canceled), reliability.Closed},
	} {
		b := reliability.NewBreaker(reliability.BreakerOptions{})
		for range 5 {
			try(t, b, c.err)
		}
		if got := b.State(); got != c.want {
			t.Errorf("five times %v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestBreaker_IgnoredResultKeepsTheCount(t *testing.T) {
	b := reliability.NewBreaker(reliability.BreakerOptions{})
	for range 4 {
		try(t, b, errDown)
		try(t, b, refusal(0x87))
	}
	wantState(t, b, reliability.Closed)
	try(t, b, errDown)
	wantState(t, b, reliability.Open)
}

func TestBreaker_CustomJudge(t *testing.T) {
	b := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1, Judge: func(error) reliability.Judgment { return reliability.Succeeded }})
	try(t, b, errDown)
	wantState(t, b, reliability.Closed)
}

func TestBreaker_SlowAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 2, SlowAck: time.Second})
		for _, took := range []time.Duration{time.Second, time.Second + 1} {
			wantState(t, b, reliability.Closed)
			for range 2 {
				done, err := b.Allow()
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(took)
				done(nil)
			}
		}
		wantState(t, b, reliability.Open)
		if s := b.Stats(); s.Slow != 2 {
			t.Errorf("%+v, want Slow 2", s)
		}
	})
}

// A trial with an ignored result frees its place.
func TestBreaker_IgnoredTrialFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := reliability.NewBreaker(reliability.BreakerOptions{})
		open(t, b)
		time.Sleep(b.RetryAfter())
		var trials []func(error)
		for range 3 {
			done, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			trials = append(trials, done)
		}
		wantOpenError(t, b, 0)
		trials[0](refusal(0x87))
		try(t, b, nil)
		trials[1](nil)
		wantState(t, b, reliability.HalfOpen)
		trials[2](nil)
		wantState(t, b, reliability.Closed)
	})
}

func TestBreaker_OnStateChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *reliability.Breaker
		var heard []string
		b = reliability.NewBreaker(reliability.BreakerOptions{OnStateChange: func(from, to reliability.State) {
			heard = append(heard, fmt.Sprintf("%v→%v", from, to))
			b.State() // no lock is held
			b.Stats()
			if to == reliability.HalfOpen { // the callback changes the state
				try(t, b, errDown)
			}
		}})
		open(t, b)
		time.Sleep(b.RetryAfter())
		b.State()
		want := "[closed→open open→half-open half-open→open]"
		if got := fmt.Sprint(heard); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	})
}

// A blocked OnStateChange blocks no other call, and is called with the newest state
// afterwards.
func TestBreaker_BlockedOnStateChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var calls []reliability.State
		b := reliability.NewBreaker(reliability.BreakerOptions{OnStateChange: func(from, to reliability.State) { calls = append(calls, from, to); <-gate }})
		go func() {
			for range 5 {
				try(t, b, errDown)
			}
		}()
		synctest.Wait()
		for range 100 {
			time.Sleep(b.RetryAfter())
			try(t, b, errDown)
		}
		time.Sleep(b.RetryAfter())
		wantState(t, b, reliability.HalfOpen)
		close(gate)
		synctest.Wait()
		if want := []reliability.State{reliability.Closed, reliability.Open, reliability.Open, reliability.HalfOpen}; !slices.Equal(calls, want) {
			t.Errorf("called with %v, want %v", calls, want)
		}
		if s := b.Stats(); s.Opened != 101 {
			t.Errorf("%+v, want Opened 101", s)
		}
	})
}

func TestBreaker_Concurrent(t *testing.T) {
	b := reliability.NewBreaker(reliability.BreakerOptions{RecoveryTimeout: time.Microsecond, OnStateChange: func(reliability.State, reliability.State) {}})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				done, err := b.Allow()
				if err != nil {
					time.Sleep(b.RetryAfter())
					continue
				}
				if (i/50+w)%3 == 0 {
					done(errDown)
				} else {
					done(nil)
				}
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Opened == 0 || s.Allowed+s.Rejected != 16000 {
		t.Errorf("%+v", s)
	}
}

func TestBreaker_AllowAllocations(t *testing.T) {
	for want, o := range []reliability.BreakerOptions{{}, {SlowAck: time.Second}} {
		b := reliability.NewBreaker(o)
		if n := testing.AllocsPerRun(100, func() {
			done, _ := b.Allow()
			done(nil)
		}); n > float64(want) {
			t.Errorf("%+v: %v allocations, want %d", o, n, want)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	for name, o := range map[string]reliability.BreakerOptions{
		"plain":    {},
		"slow":     {SlowAck: time.Second},
		"listener": {OnStateChange: func(reliability.State, reliability.State) {}},
	} {
		b.Run(name, func(b *testing.B) {
			br := reliability.NewBreaker(o)
			b.ReportAllocs()
			for b.Loop() {
				done, _ := br.Allow()
				done(nil)
			}
		})
	}
}

func TestBreaker_ThresholdsOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1, SuccessesToClose: 1})
		try(t, b, errDown)
		wantState(t, b, reliability.Open)
		time.Sleep(b.RetryAfter())
		try(t, b, nil)
		wantState(t, b, reliability.Closed)
	})
}

// OnStateChange is called with HalfOpen when the first trial begins, not when it ends.
func TestBreaker_ReportsHalfOpenAtTheFirstTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last reliability.State
		b := reliability.NewBreaker(reliability.BreakerOptions{OnStateChange: func(_, to reliability.State) { last = to }})
		open(t, b)
		time.Sleep(b.RetryAfter())
		done, err := b.Allow()
		if err != nil || last != reliability.HalfOpen {
			t.Errorf("%v, told %v", err, last)
		}
		done(nil)
	})
}

func TestOpenError_Text(t *testing.T) {
	if got := (&reliability.OpenError{RetryAfter: time.Second}).Error(); !strings.Contains(got, "open; try again in 1s") {
		t.Error(got)
	}
	if got := (&reliability.OpenError{}).Error(); !strings.Contains(got, "half-open") {
		t.Error(got)
	}
}

// The longest timeout does not overflow.
func TestBreaker_LongestRecoveryTimeout(t *testing.T) {
	b := reliability.NewBreaker(reliability.BreakerOptions{FailureThreshold: 1, RecoveryTimeout: math.MaxInt64})
	done, err := b.Allow()
	if err != nil {
		t.Fatal(err)
	}
	done(errors.New("down"))
	if got := b.RetryAfter(); got < 100*365*24*time.Hour {
		t.Errorf("trials begin in %v", got)
	}
}
