package reliability

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func constant(r float64) func() float64 { return func() float64 { return r } }

func TestBackoff_Bounds(t *testing.T) {
	for attempt, bound := range []time.Duration{
		200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond,
		51200 * time.Millisecond, time.Minute, time.Minute,
	} {
		if got := (Backoff{Rand: constant(0)}).Delay(attempt); got != 100*time.Millisecond {
			t.Errorf("attempt %d, least: %v", attempt, got)
		}
		if got := (Backoff{Rand: constant(1)}).Delay(attempt); got != bound {
			t.Errorf("attempt %d, most: %v, want %v", attempt, got, bound)
		}
	}
	half := Backoff{Min: time.Second, Max: 10 * time.Second, Factor: 3, Rand: constant(0.5)}
	if got := half.Delay(0); got != 2*time.Second {
		t.Errorf("half of 1 to 3 s: %v", got)
	}
}

// A Max below the default of Min lowers Min, and the delay stays random.
func TestBackoff_MaxBelowDefaultMin(t *testing.T) {
	for _, most := range []time.Duration{1, 2, time.Millisecond, 50 * time.Millisecond, 150 * time.Millisecond} {
		for attempt := range 3 {
			least := max(1, most/2)
			if got := (Backoff{Max: most, Rand: constant(0)}).Delay(attempt); got != least {
				t.Errorf("Max %v, attempt %d, least: %v, want %v", most, attempt, got, least)
			}
			if got := (Backoff{Max: most, Rand: constant(1)}).Delay(attempt); got != most {
				t.Errorf("Max %v, attempt %d, most: %v", most, attempt, got)
			}
		}
		if got := (Backoff{Max: most, Rand: constant(1)}).Later(); got != most {
			t.Errorf("Max %v, later: %v", most, got)
		}
	}
	if got := (Backoff{Min: time.Second, Max: time.Millisecond}).Delay(0); got != time.Second {
		t.Errorf("Min above Max: %v, want Min", got)
	}
}

// Every delay is within [Min, Max], for any configuration and attempt.
func TestBackoff_NeverOverflows(t *testing.T) {
	durations := []time.Duration{math.MinInt64, -1, 0, 1, time.Second, math.MaxInt64}
	for _, lo := range durations {
		for _, hi := range durations {
			for _, factor := range []float64{math.Inf(-1), -1, 0, 0.5, 1, 1.0001, 2, 1e300, math.Inf(1), math.NaN()} {
				for _, r := range []float64{math.Inf(-1), -1, 0, 0.5, 1, 2, math.NaN()} {
					b := Backoff{Min: lo, Max: hi, Factor: factor, Rand: constant(r)}
					for _, attempt := range []int{math.MinInt, -1, 0, 1, 62, 63, 64, 1024, math.MaxInt} {
						least, most, _ := b.bounds()
						if d := b.Delay(attempt); d < least || d > most || d <= 0 {
							t.Fatalf("%+v with %v, attempt %d: %v, want %v to %v", b, r, attempt, d, least, most)
						}
					}
				}
			}
		}
	}
}

func TestBackoff_Jitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		seen[Backoff{}.Delay(5)] = true
	}
	if len(seen) < 90 {
		t.Errorf("100 delays, only %d different", len(seen))
	}
}

func TestRetry_ResetsWhenStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Retry{Backoff: Backoff{Rand: constant(1)}}
		next := func(want time.Duration) {
			t.Helper()
			if got := r.Next(); got != want {
				t.Errorf("Next: %v, want %v", got, want)
			}
		}
		next(200 * time.Millisecond)
		next(400 * time.Millisecond)
		r.Up()
		r.Down() // at once
		next(800 * time.Millisecond)
		time.Sleep(time.Hour) // time without a connection does not count
		next(1600 * time.Millisecond)
		r.Up()
		time.Sleep(10*time.Second - 1) // almost stable
		r.Down()
		next(400 * time.Millisecond)
		r.Up()
		time.Sleep(10 * time.Second)
		if n := r.Attempts(); n != 0 {
			t.Errorf("%d attempts after a stable time", n)
		}
		r.Down()
		next(200 * time.Millisecond)
		r.Down() // without Up: no effect
		next(400 * time.Millisecond)
		r.Up()
		time.Sleep(9 * time.Second)
		r.Up() // a new connection without Down
		time.Sleep(time.Second)
		r.Down()
		next(800 * time.Millisecond)
		r.Up()
		time.Sleep(10 * time.Second)
		r.Up()
		r.Down()
		next(200 * time.Millisecond)
	})
}

// A connection that is too short to reset the count reduces it by the share of Stable for which it
// was up. Attempts after the one that reaches Max do not matter.
func TestRetry_ShortConnectionReducesTheCount(t *testing.T) {
	for _, tt := range []struct {
		backoff  Backoff
		attempts int
		uptime   time.Duration
		want     int
	}{
		{Backoff{}, 4, 0, 4},
		{Backoff{}, 4, time.Millisecond, 4},
		{Backoff{}, 4, 2500 * time.Millisecond, 3},
		{Backoff{}, 4, 2600 * time.Millisecond, 3},
		{Backoff{}, 4, 7500 * time.Millisecond, 1},
		{Backoff{}, 4, 9999 * time.Millisecond, 1},
		{Backoff{}, 4, 10 * time.Second, 0},
		{Backoff{}, 0, time.Second, 0},
		{Backoff{}, 9, 0, 9}, // 100 ms * 2^10 exceeds a minute
		{Backoff{}, 1000, 0, 9},
		{Backoff{}, 1000, 3 * time.Second, 7},
		{Backoff{Factor: 10}, 1000, 0, 2},
		{Backoff{Factor: 1}, 100, 3 * time.Second, 70}, // the delays do not grow
		{Backoff{Min: time.Minute}, 100, 3 * time.Second, 0},
		{Backoff{Min: time.Second, Max: time.Second, Factor: 1}, 100, 3 * time.Second, 0},
		{Backoff{Min: 50 * time.Second}, 100, 3 * time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &Retry{Backoff: tt.backoff}
			for range tt.attempts {
				r.Next()
			}
			r.Up()
			time.Sleep(tt.uptime)
			r.Down()
			if got := r.Attempts(); got != tt.want {
				t.Errorf("%+v: count %d after %d attempts and a connection of %v, want %d", tt.backoff, got, tt.attempts, tt.uptime, tt.want)
			}
		})
	}
}

func TestRetry_RepeatedFaultsDoNotReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Retry{Backoff: Backoff{Rand: constant(1)}}
		connection := func(end func(), want time.Duration) {
			t.Helper()
			r.Up()
			time.Sleep(time.Hour)
			end()
			r.Down() // no effect
			if got := r.Next(); got != want {
				t.Errorf("Next: %v, want %v", got, want)
			}
		}
		r.Fault() // without Up: no effect
		r.Next()
		connection(r.Fault, 200*time.Millisecond) // the first resets the count as usual
		connection(r.Fault, 400*time.Millisecond)
		r.Next() // the server is down
		connection(r.Fault, 1600*time.Millisecond)
		connection(r.Down, 200*time.Millisecond)
		connection(r.Fault, 200*time.Millisecond)
		connection(r.Fault, 400*time.Millisecond)
	})
}

func TestRetry_Stable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Retry{Stable: time.Second}
		r.Next()
		r.Up()
		time.Sleep(time.Second)
		r.Down()
		if n := r.Attempts(); n != 0 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestBackoff_Later(t *testing.T) {
	for _, c := range []struct {
		b    Backoff
		r    float64
		want time.Duration
	}{
		{Backoff{}, 0, 30 * time.Second},
		{Backoff{}, 1, time.Minute},
		{Backoff{Factor: 1}, 1, time.Minute},
		{Backoff{Min: 8 * time.Second, Max: 10 * time.Second}, 0, 8 * time.Second},
		{Backoff{Min: time.Second, Max: 10 * time.Second}, 0.5, 7500 * time.Millisecond},
	} {
		c.b.Rand = constant(c.r)
		if got := c.b.Later(); got != c.want {
			t.Errorf("%+v with %v: %v, want %v", c.b, c.r, got, c.want)
		}
	}
}

func TestRetry_LaterAndReset(t *testing.T) {
	r := Retry{Backoff: Backoff{Rand: constant(1)}}
	if got := r.Later(); got != time.Minute || r.Attempts() != 1 {
		t.Errorf("%v after %d attempts", got, r.Attempts())
	}
	r.Next()
	r.Reset()
	if got := r.Next(); got != 200*time.Millisecond {
		t.Errorf("the first delay after Reset is %v", got)
	}
}

func TestBackoff_Factor(t *testing.T) {
	for factor, want := range map[float64]time.Duration{
		1: 100 * time.Millisecond, 1.5: 150 * time.Millisecond, 0.9: 200 * time.Millisecond,
	} {
		if got := (Backoff{Factor: factor, Rand: constant(1)}).Delay(0); got != want {
			t.Errorf("factor %v: %v, want %v", factor, got, want)
		}
	}
}

// A stable connection resets the count even without a call of Down.
func TestRetry_WithoutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, next := range map[string]func(*Retry){"Next": func(r *Retry) { r.Next() }, "Later": func(r *Retry) { r.Later() }} {
			r := &Retry{}
			r.Next()
			r.Next()
			r.Up()
			time.Sleep(10 * time.Second)
			next(r)
			if r.attempt != 1 {
				t.Errorf("%s: %d attempts", name, r.attempt)
			}
		}
	})
}
