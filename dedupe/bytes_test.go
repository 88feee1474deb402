package dedupe_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// heap returns the bytes in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// However long keys are, they take no more than MaxBytes.
func TestMaxBytes(t *testing.T) {
	const limit, length, count = 8 << 20, 60_000, 1000
	before, evicted := heap(), 0
	c := dedupe.NewMemory(dedupe.Options{OnEvict: func(_ string, why dedupe.Reason) {
		if why == dedupe.Capacity {
			evicted++
		}
	}})
	for i := range count {
		claim, v, err := c.Begin(t.Context(), fmt.Sprintf("%0*d", length, i), "o")
		if err != nil || v != dedupe.Fresh {
			t.Fatal(v, err)
		}
		if err := c.Commit(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	if used := heap() - before; used > limit+1<<20 {
		t.Errorf("%d bytes of heap, want at most %d", used, limit+1<<20)
	}
	s := c.Stats()
	if s.Bytes > limit || s.Size != limit/length || s.Evicted != uint64(count-s.Size) || evicted != count-s.Size {
		t.Errorf("%+v, %d evicted", s, evicted)
	}
	if _, v, err := c.Begin(t.Context(), fmt.Sprintf("%0*d", length, count-1), "o"); v != dedupe.Duplicate {
		t.Errorf("the newest key: %v, %v", v, err)
	}
}

// Claimed keys take no more than MaxBytes either.
func TestMaxBytes_Claims(t *testing.T) {
	const limit, length = 1 << 20, 60_000
	c := dedupe.NewMemory(dedupe.Options{MaxBytes: limit})
	var claims []dedupe.Claim
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		var claim dedupe.Claim
		claim, _, err = c.Begin(t.Context(), fmt.Sprintf("%0*d", length, i), "o")
		claims = append(claims, claim)
	}
	full := (*dedupe.InFlightError)(nil)
	if !errors.As(err, &full) || full.Bytes != limit || len(claims) != limit/length+1 || c.Stats().Refused != 1 {
		t.Fatalf("after %d claims: %v, %+v", len(claims), err, c.Stats())
	}
	for _, claim := range claims[:len(claims)-1] {
		if err := c.Abort(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Begin(t.Context(), fmt.Sprintf("%0*d", length, 1), "o"); err != nil {
		t.Errorf("after the claims were aborted: %v", err)
	}
}
