package faultfs

import (
	"iter"
	"math/rand/v2"
	"slices"
)

// Trace is what was done to a file system since it was made: the operations that
// change something, in order. A crash at cut n comes after the first n of them.
type Trace struct {
	Ops   []Op
	start *disk
	boot  uint64
}

// Plan says how many states to build.
type Plan struct {
	// PerCut bounds the states at each cut. What there is beyond it is sampled,
	// after the states that are most telling: nothing kept, all kept, a prefix,
	// one missing, one alone. 0: no bound but the package's own, which are all
	// subsets of 10 units and tears at each byte of writes up to 512 bytes.
	PerCut int
	// Seed chooses the sample.
	Seed uint64
}

// Trace returns what was done so far.
func (s *FS) Trace() Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Trace{Ops: slices.Clip(s.ops), start: s.start, boot: s.boot}
}

// cuts yields the disk at each cut. It is changed by the next step.
func (t Trace) cuts() iter.Seq2[int, *disk] {
	return func(yield func(int, *disk) bool) {
		d := t.start.clone()
		for cut := 0; yield(cut, d) && cut < len(t.Ops); cut++ {
			d.apply(&t.Ops[cut])
		}
	}
}

// KilledAt returns the file system as a process finds it after the one before
// was killed at this cut: nothing is lost, and nothing more durable.
func (t Trace) KilledAt(cut int) *FS {
	for at, d := range t.cuts() {
		if at == cut {
			return bootedFS(d, t.boot)
		}
	}
	panic("faultfs: a cut outside the trace")
}

// States yields what the disk may hold after a power cut, in the order of the
// cuts. States of a cut differ in what was kept; some have the same contents.
func (t Trace) States(p Plan) iter.Seq[*State] {
	return func(yield func(*State) bool) {
		for cut, d := range t.cuts() {
			rnd := rand.New(rand.NewPCG(p.Seed, uint64(cut)))
			if !undecidedAt(cut, d).states(p, rnd, yield) {
				return
			}
		}
	}
}

// PowerCut returns one of the states that a power cut at present may leave.
func (s *FS) PowerCut(rnd *rand.Rand) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := undecidedAt(len(s.ops), s.now)
	pick := u.random(rnd)
	if len(u.writes) == 0 || rnd.IntN(2) == 0 {
		return u.state(pick, nil).FS()
	}
	w := u.writes[rnd.IntN(len(u.writes))]
	return u.state(pick, &tear{w, rnd.IntN(len(w.in.layers[w.layer].data)), rnd.IntN(2) == 0}).FS()
}
