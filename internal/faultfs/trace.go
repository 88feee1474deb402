package faultfs

import (
	"iter"
	"math/rand/v2"
	"slices"
)

// Trace is the sequence of operations that changed a file system since it was created. A crash at
// cut n comes after the first n of them.
type Trace struct {
	Ops   []Op
	start *disk
	boot  uint64
}

// Plan selects the states to build.
type Plan struct {
	// PerCut bounds the number of states at each cut. If there are more, the most significant
	// states come first: nothing kept, everything kept, each prefix, each set without one unit,
	// each single unit. A random sample follows. 0 means the bounds of the package: all subsets of
	// up to 10 units, and tears at each byte of writes of up to 512 bytes.
	PerCut int
	// Seed selects the random sample.
	Seed uint64
}

// Trace returns the operations so far.
func (s *FS) Trace() Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Trace{Ops: slices.Clip(s.ops), start: s.start, boot: s.boot}
}

// cuts yields the disk at each cut. The next iteration changes the disk.
func (t Trace) cuts() iter.Seq2[int, *disk] {
	return func(yield func(int, *disk) bool) {
		d := t.start.clone()
		for cut := 0; yield(cut, d) && cut < len(t.Ops); cut++ {
			d.apply(&t.Ops[cut])
		}
	}
}

// KilledAt returns the file system after the process was killed at this cut. Nothing is lost, and
// nothing becomes more durable.
func (t Trace) KilledAt(cut int) *FS {
	for at, d := range t.cuts() {
		if at == cut {
			return bootedFS(d, t.boot)
		}
	}
	panic("faultfs: cut is outside the trace")
}

// States yields the possible contents of the disk after a power failure, in the order of the cuts.
// Different states of a cut may have the same content.
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

// PowerCut returns a random state that a power failure at this moment may leave.
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
