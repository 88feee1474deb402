package subs

import (
	"testing"
	"testing/synctest"
	"time"
)

// retrying starts a table that retries refusals after 1 s, 2 s, 4 s and so on.
func retrying(t *testing.T) *server {
	s := serve(t)
	s.table.cfg.Backoff = func(attempt int) time.Duration { return time.Second << attempt }
	return s
}

// after lets time pass until the table requests refused wants again. It checks the time.
func (s *server) after(want time.Duration) {
	s.t.Helper()
	if got := s.table.untilRetry(); got != want {
		s.t.Fatalf("the next retry is after %v, want %v", got, want)
	}
	time.Sleep(want)
	s.table.retryRefused()
}

func (s *server) state(filter string) State {
	a, _ := s.table.Answer(filter)
	return a.State
}

func TestTable_RetriesTemporaryRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := retrying(t)
		s.refuse["a"], s.refuse["b"] = true, true
		for _, f := range []string{"a", "b", "c"} {
			s.sub(Want{Filter: f})
		}
		s.connect(false, all)
		s.want("a q0 rh0, b q0 rh0, c q0 rh0")
		s.results("0 a refused", "0 b refused", "0 c granted")
		s.after(time.Second)
		if s.state("a") != Refused {
			t.Error("the state changes while the request is repeated")
		}
		s.want("a q0 rh0, b q0 rh0")
		s.results() // the same refusal is not reported again
		s.refuse["b"] = false
		s.after(2 * time.Second)
		s.want("a q0 rh0, b q0 rh0")
		if len(s.report) != 1 || !s.report[0].Recovered || s.report[0].Want.Filter != "b" {
			t.Errorf("reported %+v, want that b is granted", s.report)
		}
		s.report = nil
		s.after(4 * time.Second)
		s.want("a q0 rh0")
		s.after(8 * time.Second)
		s.want("a q0 rh0")
		if s.state("a") != Refused || s.state("b") != Active {
			t.Errorf("a is %v, b is %v", s.state("a"), s.state("b"))
		}
		s.unsub("a") // ends the retries
		s.want("-a")
		s.report = nil
		s.after(16 * time.Second)
		s.want()
		s.after(time.Hour) // no timer is set
		s.want()
	})
}

// A new connection requests everything at once, and its backoff begins anew.
func TestTable_RetriesBeginAnewWithAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := retrying(t)
		s.refuse["a"] = true
		s.sub(Want{Filter: "a"})
		s.connect(false, all)
		s.want("a q0 rh0")
		s.after(time.Second)
		s.want("a q0 rh0")
		s.table.detach()
		s.after(time.Hour)
		s.report = nil
		s.connect(true, all)
		if s.state("a") != Pending {
			t.Errorf("a is %v", s.state("a"))
		}
		s.want("a q0 rh0")
		s.results("0 a refused")
		s.after(time.Second)
		s.table.detach()
		s.refuse["a"] = false
		s.connect(true, all)
		s.want("a q0 rh0")
		if len(s.report) != 1 || !s.report[0].Recovered {
			t.Errorf("reported %+v, want that a is granted after a refusal", s.report)
		}
	})
}

// A code about the request itself cannot change on the same connection.
func TestTable_DoesNotRetryFinalRefusals(t *testing.T) {
	for code := 0x80; code <= 0xFF; code++ {
		switch code {
		case 0x81, 0x82, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x99, 0x9A, 0x9B, 0x9E, 0xA1, 0xA2:
			if _, passes := temporary(&RefusedError{Code: byte(code)}); passes {
				t.Errorf("0x%02X is temporary", code)
			}
		case 0x80, 0x83, 0x87, 0x91, 0x97:
			if got, passes := temporary(&RefusedError{Code: byte(code)}); !passes || got != byte(code) {
				t.Errorf("0x%02X is final", code)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := retrying(t)
		s.table.Set(Application, Want{Filter: "a/+"})
		l := all
		l.WildcardAvailable = false
		s.connect(false, l)
		s.want("a/+ q0 rh0")
		s.results("0 a/+ refused")
		s.after(time.Hour)
		s.want()
		if s.state("a/+") != Refused {
			t.Errorf("it is %v", s.state("a/+"))
		}
	})
}
