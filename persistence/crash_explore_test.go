package persistence

import (
	flags "flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

var crashStates = flags.Int("crash.states", defaultCrashStates, "how many states that a crash may leave TestCrashStates opens at least")

// TestCrashStates runs each workload and builds the states that a crash at each of its operations
// may leave. It opens the log on each state, and compares its content with the guarantees that were
// given before the crash. On some states, it continues to use the log and simulates another crash.
func TestCrashStates(t *testing.T) {
	each := *crashStates/len(crashWorkloads) + 1
	total, ran := 0, 0
	t.Run("workloads", func(t *testing.T) {
		for _, w := range crashWorkloads {
			x := &explorer{w: w, want: each}
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				if err := x.explore(); err != nil {
					t.Fatal(err)
				}
				if w.moves && 2*x.moving <= x.seeds {
					t.Errorf("only %d of %d runs moved messages", x.moving, x.seeds)
				}
				t.Logf("%s: %d states, %d openings, %d runs, %d of them after a crash", w.name, len(x.distinct), x.openings, x.runs, x.again)
			})
			t.Cleanup(func() {
				if total += len(x.distinct); x.runs > 0 {
					ran++
				}
			})
		}
	})
	t.Logf("%d states", total)
	if total < *crashStates && ran == len(crashWorkloads) && !t.Failed() {
		t.Errorf("only %d states that a crash may leave, want %d", total, *crashStates)
	}
}

// explorer tests the states that crashes of one workload may leave.
type explorer struct {
	w    crashWorkload
	want int                          // number of states
	lie  func() func(faultfs.Op) bool // if set, returns the function that selects the operations to skip
	// meddle, if set, damages the log before each step.
	meddle func(*Log)

	distinct map[uint64]struct{} // states by content
	opened   map[uint64]struct{} // states by content and guarantees
	openings int
	runs     int // runs of the workload, and continuations after a crash
	again    int
	seeds    int
	moving   int // seeds whose runs moved messages
}

// explore runs the workload with one seed after the other.
func (x *explorer) explore() error {
	x.distinct, x.opened = map[uint64]struct{}{}, map[uint64]struct{}{}
	for seed := uint64(0); len(x.distinct) < x.want; seed++ {
		clear(x.opened)
		p := newProgram(x.disk(faultfs.New()), x.w.o, newModel(x.w.o), seed, 0)
		if err := x.crash(p, x.w.run, seed, 0); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if x.seeds++; p.moved > 0 {
			x.moving++
		}
	}
	return nil
}

func (x *explorer) disk(fsys *faultfs.FS) *memFS {
	m := onMemFS(fsys)
	if x.lie != nil {
		m.lie = x.lie()
	}
	return m
}

// atCut returns the number of states to build at each cut, depending on the number of earlier
// crashes. If more states are wanted, it first increases the number at each cut, then the number of
// runs.
func (x *explorer) atCut(depth int) int {
	n := max(9, min(64, x.want/60))
	if depth > 0 {
		n = max(6, min(32, n/4)) / depth
	}
	return n
}

// goOnAfter is the average number of cuts after which the program continues on one of the states,
// by the number of earlier crashes.
var goOnAfter = [...]int{3, 8}

// crash runs the program and tests the states that crashes during the run may leave.
func (x *explorer) crash(p *program, run func(*program) error, seed uint64, depth int) error {
	x.runs++
	p.meddle = x.meddle
	if depth > 0 {
		x.again++
	}
	if err := guarded(func() error { return run(p) }); err != nil {
		return fmt.Errorf("while it ran: %w%s", err, traced(p.fsys.Trace(), p.fsys.Len()))
	}
	p.fsys.Kill()
	trace, m, next := p.fsys.Trace(), p.start.clone(), 0
	rnd := rand.New(rand.NewPCG(seed, uint64(depth)))
	for state := range trace.States(faultfs.Plan{PerCut: x.atCut(depth), Seed: seed}) {
		for next < len(p.history) && p.history[next].at <= state.Cut {
			p.history[next].change(m)
			next++
		}
		hash := state.Hash()
		here := hash ^ uint64(next)*0x9e3779b97f4a7c15 ^ uint64(p.n)<<40
		if _, twice := x.opened[here]; twice {
			continue
		}
		x.opened[here], x.distinct[hash] = struct{}{}, struct{}{}
		x.openings++
		if err := guarded(func() error { return agrees(state.FS(), x.w.o, m) }); err != nil {
			return fmt.Errorf("%w\n%v%s", err, state, traced(trace, state.Cut))
		}
		if depth == len(goOnAfter) || rnd.IntN(goOnAfter[depth]*x.atCut(depth)) > 0 {
			continue
		}
		left, what := state.FS(), "power cut"
		if rnd.IntN(4) == 0 {
			left, what = trace.KilledAt(state.Cut), "kill"
		}
		p2 := newProgram(x.disk(left), x.w.o, m.clone(), rnd.Uint64(), p.n+1000)
		after := aftermath
		if after.conflate = x.w.o.Limits.WhenFull == DropOldest; !after.conflate {
			after.postpone = 2
		}
		if err := x.crash(p2, after.steps(8), rnd.Uint64(), depth+1); err != nil {
			return fmt.Errorf("after a %s: %w\n%v%s", what, err, state, traced(trace, state.Cut))
		}
	}
	return nil
}

// agrees opens the log and compares it with the model.
func agrees(fsys *faultfs.FS, o Options, m *model) error {
	o.FS, o.Sync, o.Interval = onMemFS(fsys), SyncEveryCommit, 0 // without the interval goroutine
	l, err := Open("log", o)
	if err != nil {
		return err
	}
	s, err := show(l, m)
	if err != nil {
		return err
	}
	return m.check(s)
}

// guarded converts a panic to an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// traced describes the operations before the crash, and the next one.
func traced(t faultfs.Trace, cut int) string {
	var b strings.Builder
	for i, op := range t.Ops[:min(cut+1, len(t.Ops))] {
		if i == cut {
			b.WriteString("\n  --- not done:")
		}
		fmt.Fprintf(&b, "\n  %v", op)
	}
	return b.String()
}
