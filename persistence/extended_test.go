package persistence

import (
	"slices"
	"testing"
)

// TestSessionLostPolicyIsKept checks that the policy of a message survives in memory and on disk,
// for all priorities, for dead letters and for moved messages.
func TestSessionLostPolicyIsKept(t *testing.T) {
	fsys := newMemFS()
	o := with(small, func(o *Options) { o.Retention.MaxDeadLetters = 10 })
	l := open(t, fsys, o)
	policies := []SessionLostPolicy{AsConfigured, Republish, FailInFlight}
	kept := uint64(0)
	for _, p := range []Priority{Normal, High, Urgent} {
		for _, policy := range policies {
			kept++
			m := numbered(kept, 50)
			m.Priority, m.OnSessionLost = p, policy
			if _, err := Append(l, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Release(2); err != nil {
		t.Fatal(err)
	}
	if err := l.Done(3, Result{Kind: DeadLettered}); err != nil {
		t.Fatal(err)
	}
	check := func(want []SessionLostPolicy) {
		t.Helper()
		var got []SessionLostPolicy
		var e Entry
		for seq := range kept {
			if ok, err := l.Get(seq+1, &e); err != nil {
				t.Fatal(err)
			} else if ok {
				got = append(got, e.OnSessionLost)
			}
		}
		if err := l.DeadLetters(func(e *Entry, _ byte) bool {
			got = append(got, e.OnSessionLost)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want := slices.Concat(policies[:2], policies, policies, policies[2:]) // the third is a dead letter
	check(want)
	for seq := kept + 1; l.Stats().Moved < kept; seq++ { // until all messages were moved
		if _, err := Append(l, numbered(seq, 500)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Result{Kind: Acked}); err != nil {
			t.Fatal(err)
		}
		if seq > 10_000 {
			t.Fatalf("only %d were moved", l.Stats().Moved)
		}
	}
	check(want)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, fsys, o)
	defer l.Close()
	check(want)
}
