package faultfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// undecided is the set of unsynced changes at a cut, divided into units. A crash leaves any subset
// of the units.
type undecided struct {
	cut    int
	d      *disk
	units  []unit
	files  []*inode // that have units
	writes []place  // layers that may be torn
}

// unit is the smallest change that is either on the medium or missing.
type unit struct {
	in     *inode // nil: a name change
	layer  int    // index in in.layers, or in d.changes; -1: the size of the file
	lo, hi int    // for a write: the range of its bytes, within one sector
}

// place is a layer of a file.
type place struct {
	in    *inode
	layer int
}

// tear is a write of which only the first bytes are on the medium.
type tear struct {
	place
	keep  int
	zeros bool // the rest is zeros; otherwise it is the earlier content
}

const sector = 512

func undecidedAt(cut int, d *disk) *undecided {
	u := &undecided{cut: cut, d: d}
	for i := range d.changes {
		u.units = append(u.units, unit{layer: i})
	}
	seen := map[*inode]bool{}
	file := func(in *inode) {
		if len(in.layers) > 0 && !seen[in] {
			seen[in] = true
			u.files = append(u.files, in)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		file(d.names[name])
	}
	for _, name := range slices.Sorted(maps.Keys(d.durable)) {
		file(d.durable[name])
	}
	for _, c := range d.changes {
		file(c.in)
	}
	for _, in := range u.files {
		u.split(in)
	}
	return u
}

// split adds the units of a file.
func (u *undecided) split(in *inode) {
	grows := false
	for i, l := range in.layers {
		if l.fate == synced {
			continue
		}
		if l.data == nil {
			u.units = append(u.units, unit{in: in, layer: i})
			continue
		}
		u.writes = append(u.writes, place{in, i})
		for lo := 0; lo < len(l.data); {
			at := int(l.off) + lo
			hi := min(len(l.data), lo+sector-at%sector)
			u.units = append(u.units, unit{in, i, lo, hi})
			lo = hi
		}
		grows = grows || l.off+int64(len(l.data)) > int64(len(in.base))
	}
	if grows {
		u.units = append(u.units, unit{in: in, layer: -1})
	}
}

// state builds the state that contains the picked units. The torn write, if any, is contained as
// far as t specifies, whether or not its units are picked.
func (u *undecided) state(pick []bool, t *tear) *State {
	s := &State{Cut: u.cut, u: u, pick: slices.Clone(pick), torn: t}
	data := make(map[*inode][]byte, len(u.files))
	for _, in := range u.files {
		data[in] = u.file(in, pick, t)
	}
	names := u.d.durable
	if len(u.d.changes) > 0 {
		names = maps.Clone(names)
		for i, c := range u.d.changes {
			if pick[i] {
				c.into(names)
			}
		}
	}
	for name, in := range names {
		b, changed := data[in]
		if !changed {
			b = in.base
			in.shared = true
		}
		s.files = append(s.files, file{name, b})
	}
	slices.SortFunc(s.files, func(a, b file) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return s
}

func (u *undecided) file(in *inode, pick []bool, t *tear) []byte {
	data := make([]byte, len(in.base), max(len(in.base), len(in.data)))
	copy(data, in.base)
	next := slices.IndexFunc(u.units, func(x unit) bool { return x.in == in })
	for i, l := range in.layers {
		if l.fate == synced {
			data = l.to(data)
			continue
		}
		for ; next < len(u.units) && u.units[next].in == in && u.units[next].layer == i; next++ {
			x := u.units[next]
			switch {
			case l.data == nil && pick[next]:
				data = l.to(data)
			case l.data == nil:
			case t != nil && t.in == in && t.layer == i:
				if hi := min(x.hi, t.keep); hi > x.lo {
					data = layer{off: l.off + int64(x.lo), data: l.data[x.lo:hi]}.to(data)
				}
				if lo := max(x.lo, t.keep); t.zeros && lo < x.hi {
					data = layer{off: l.off + int64(lo), data: make([]byte, x.hi-lo)}.to(data)
				}
			case pick[next]:
				data = layer{off: l.off + int64(x.lo), data: l.data[x.lo:x.hi]}.to(data)
			}
		}
	}
	if next < len(u.units) && u.units[next].in == in && pick[next] && len(data) < len(in.data) {
		data = resize(data, int64(len(in.data)))
	}
	return data
}

// The bounds of the package, see Plan.
const (
	allSubsets = 10
	manyStates = 4 << 10
	shortWrite = 512
)

// states yields the states of a cut, and reports whether to continue with the next cut.
func (u *undecided) states(p Plan, rnd *rand.Rand, yield func(*State) bool) bool {
	left := p.PerCut
	if left <= 0 {
		left = manyStates
	}
	tears := u.tears(rnd)
	forSubsets := left
	if len(tears) > 0 {
		forSubsets = max(2, left/2)
	}
	for pick := range u.subsets(forSubsets, rnd) {
		if !yield(u.state(pick, nil)) {
			return false
		}
		left--
	}
	// Combine each tear with four choices of the other units.
	order := rnd.Perm(4 * len(tears))
	for _, i := range order[:max(0, min(left, len(order)))] {
		if !yield(u.state(u.around(i%4, rnd), &tears[i/4])) {
			return false
		}
	}
	return true
}

// tears returns the possible tears. A short write may be torn at each byte. A long write may be
// torn near its ends, at sector boundaries, and at random places.
func (u *undecided) tears(rnd *rand.Rand) (tears []tear) {
	for _, w := range u.writes {
		l := w.in.layers[w.layer]
		n := len(l.data)
		for keep := 1; keep < n; keep++ {
			at := (int(l.off) + keep) % sector
			if n <= shortWrite || keep < 64 || keep > n-64 || at <= 1 || at == sector-1 || rnd.IntN(n) < 64 {
				tears = append(tears, tear{w, keep, false}, tear{w, keep, true})
			}
		}
	}
	return tears
}

// around returns the units that accompany a torn write. For kind 0, these are all units. For kind
// 1, these are all except file sizes. For kind 2, these are the name changes. For kind 3, they are
// random.
func (u *undecided) around(kind int, rnd *rand.Rand) []bool {
	if kind == 3 {
		return u.random(rnd)
	}
	pick := make([]bool, len(u.units))
	for i, x := range u.units {
		pick[i] = kind == 0 || x.in == nil || kind == 1 && x.layer >= 0
	}
	return pick
}

func (u *undecided) random(rnd *rand.Rand) []bool {
	pick := make([]bool, len(u.units))
	odds := 1 + rnd.IntN(7)
	for i := range pick {
		pick[i] = rnd.IntN(8) < odds
	}
	return pick
}
