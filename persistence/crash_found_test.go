package persistence

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// Tests for defects that the exploration of crash states has found, and similar ones.

// killedAt appends messages of this size until the log has begun its second segment. It returns the
// file system of a process that was killed before the n-th operation after the creation of that
// segment.
func killedAt(t *testing.T, size, n int) *memFS {
	t.Helper()
	fsys := newMemFS()
	l := open(t, fsys, small)
	for seq := uint64(1); fsys.data("log/0000000000000002.mlog") == nil; seq++ {
		if _, err := Append(l, numbered(seq, size)); err != nil {
			t.Fatal(err)
		}
	}
	trace := fsys.Trace()
	created := slices.IndexFunc(trace.Ops, func(o faultfs.Op) bool {
		return o.Kind == faultfs.Create && o.Name == "log/0000000000000002.mlog"
	})
	return onMemFS(trace.KilledAt(created + n))
}

// noDamage opens the states that crashes may leave, and checks that none of them is damaged.
func noDamage(t *testing.T, fsys *memFS, shown func(cut int) []uint64) {
	t.Helper()
	trace := fsys.Trace()
	for state := range trace.States(faultfs.Plan{PerCut: 300}) {
		l := open(t, onMemFS(state.FS()), small)
		seqs, _ := contents(t, l)
		for _, seq := range shown(state.Cut) {
			if !slices.Contains(seqs, seq) {
				t.Fatalf("message %d was shown and is lost\n%v%s", seq, state, traced(trace, state.Cut))
			}
		}
		if s := l.Stats(); s.Corruptions > 0 || s.Lost > 0 {
			t.Fatalf("a crash was reported as damage: %+v\n%v%s", s, state, traced(trace, state.Cut))
		}
	}
}

// TestOpen_KilledBeforeFolderSync kills a process after it has written the opening of a new
// segment, and before it has synced the folder. The next process links its own segment to that one.
// After a power failure, only the newer of the two names is on disk. A small opening is written
// again, so nothing links to its segment. A large one is not.
func TestOpen_KilledBeforeFolderSync(t *testing.T) {
	for _, size := range []int{1000, 20_000} {
		fsys := killedAt(t, size, 3) // after create, write and sync
		l := open(t, fsys, small)
		opened := fsys.Len()
		seqs, _ := contents(t, l)
		noDamage(t, fsys, func(cut int) []uint64 {
			if cut < opened {
				return nil
			}
			return seqs
		})
	}
}

// TestOpen_KilledAfterFailedSync kills a process after the sync of a new segment has failed, and
// before it has written everything to another segment. The next process reads data that is only in
// the memory of the system, and its own sync reports success.
func TestOpen_KilledAfterFailedSync(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, small)
	failed := false
	fsys.fault = func(op, name string, n int) (int, error) {
		switch {
		case failed:
			return 0, errPower // the process was killed
		case op == "sync" && name == "log/0000000000000002.mlog":
			failed = true
			return 0, os.ErrDeadlineExceeded
		}
		return n, nil
	}
	for seq := uint64(1); !failed; seq++ {
		if _, err := Append(l, numbered(seq, 1000)); err != nil && !failed {
			t.Fatal(err)
		}
	}
	fsys = fsys.killed()
	l = open(t, fsys, small)
	opened := fsys.Len()
	seqs, _ := contents(t, l)
	noDamage(t, fsys, func(cut int) []uint64 {
		if cut < opened {
			return nil
		}
		return seqs
	})
}

// TestDropOldest_CrashBeforeDrops simulates a crash between the record of a message and the records
// that drop older messages for it. The older messages are then dropped at the opening.
func TestDropOldest_CrashBeforeDrops(t *testing.T) {
	o := small
	o.Limits.MaxMessages, o.Limits.WhenFull = 2, DropOldest
	fsys := newMemFS()
	l := open(t, fsys, o)
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := Append(l, numbered(seq, 100)); err != nil {
			t.Fatal(err)
		}
	}
	trace := fsys.Trace()
	for state := range trace.States(faultfs.Plan{}) {
		l := open(t, onMemFS(state.FS()), o)
		seqs, _ := contents(t, l)
		if l.Stats().Dropped > 0 && !slices.Contains(seqs, 3) {
			t.Fatalf("%v are left, a message was dropped for nothing\n%v%s", seqs, state, traced(trace, state.Cut))
		}
	}
}

// TestDropOldest_DropsNothingIfTooFew checks that no message is dropped if dropping all droppable
// messages would not make enough room.
func TestDropOldest_DropsNothingIfTooFew(t *testing.T) {
	o := small
	o.Limits.MaxBytes, o.Limits.WhenFull = 1000, DropOldest
	l := open(t, newMemFS(), o)
	defer l.Close()
	for seq := uint64(1); seq <= 3; seq++ {
		if _, err := Append(l, numbered(seq, 300)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.SetSent(Normal, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := Append(l, numbered(4, 500)); !errors.Is(err, ErrFull) {
		t.Errorf("refused with %v", err)
	}
	if seqs, _ := contents(t, l); len(seqs) != 3 {
		t.Errorf("%v are left", seqs)
	}
}

// TestDeadLetters_CrashBeforeDiscard simulates a crash between the record of a dead letter and the
// record that discards the oldest one for it.
func TestDeadLetters_CrashBeforeDiscard(t *testing.T) {
	o := small
	o.Retention.MaxDeadLetters = 1
	fsys := newMemFS()
	l := open(t, fsys, o)
	for seq := uint64(1); seq <= 2; seq++ {
		if _, err := Append(l, numbered(seq, 100)); err != nil {
			t.Fatal(err)
		}
		if err := l.Done(seq, Result{Kind: DeadLettered, Reason: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	for state := range fsys.Trace().States(faultfs.Plan{}) {
		l := open(t, onMemFS(state.FS()), o)
		if n := l.Stats().DeadLetters; n > 1 {
			t.Fatalf("%d dead letters\n%v", n, state)
		}
	}
}

// TestSetSent_WaitsForEarlierCall checks a SetSent of a number that another caller is making
// durable. It must not return before that number is durable.
func TestSetSent_WaitsForEarlierCall(t *testing.T) {
	fsys := newMemFS()
	l := open(t, fsys, small)
	second := make(chan error, 1)
	var once sync.Once
	fsys.setFault(func(op, _ string, n int) (int, error) {
		if op != "sync" {
			return n, nil
		}
		once.Do(func() {
			go func() { second <- l.SetSent(High, 7) }()
			for waits := false; !waits && len(second) == 0; runtime.Gosched() {
				l.mu.Lock()
				waits = l.pipe.flight[0].waiters.Load() > 0
				l.mu.Unlock()
			}
		})
		return 0, syscall.EIO
	})
	if err := l.SetSent(High, 7); !errors.Is(err, ErrDegraded) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; !errors.Is(err, ErrDegraded) {
		t.Errorf("the second: %v", err)
	}
	_ = l.Close()
}
