package faultfs

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
)

// State is one content of the disk that a crash may leave.
type State struct {
	// Cut is how many operations were done before the crash. With any of the
	// later ones missing or torn.
	Cut int

	files []file // by name
	u     *undecided
	pick  []bool
	torn  *tear
}

type file struct {
	name string
	data []byte
}

// FS returns the state as a file system after the crash: all of it is durable.
func (s *State) FS() *FS {
	d := newDisk()
	for _, f := range s.files {
		d.add(f.name, f.data)
	}
	return newFS(d)
}

var hashSeed = maphash.MakeSeed()

// Hash is equal for equal contents, within a process.
func (s *State) Hash() uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	var size [8]byte
	for _, f := range s.files {
		binary.LittleEndian.PutUint64(size[:], uint64(len(f.data)))
		_, _ = h.WriteString(f.name)
		_, _ = h.Write(size[:])
		_, _ = h.Write(f.data)
	}
	return h.Sum64()
}

// String tells how the state comes about: what was undecided at the cut, and
// how it was decided. It is valid until the next state is built.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "crash after %d operations", s.Cut)
	for i, x := range s.u.units {
		kept := "missing"
		if s.pick[i] {
			kept = "kept"
		}
		switch {
		case x.in == nil:
			c := s.u.d.changes[x.layer]
			fmt.Fprintf(&b, "\n  %s %s %s", c.kind, c.name, c.to)
		case x.layer < 0:
			fmt.Fprintf(&b, "\n  size of file %d: %d", x.in.number, len(x.in.data))
		case x.in.layers[x.layer].data == nil:
			fmt.Fprintf(&b, "\n  truncation of file %d to %d", x.in.number, x.in.layers[x.layer].off)
		default:
			off := x.in.layers[x.layer].off
			fmt.Fprintf(&b, "\n  write to file %d [%d,%d)", x.in.number, off+int64(x.lo), off+int64(x.hi))
			if t := s.torn; t != nil && t.in == x.in && t.layer == x.layer {
				kept = fmt.Sprintf("torn at %d, the rest zeros: %t", off+int64(t.keep), t.zeros)
			}
		}
		b.WriteString(": " + kept)
	}
	for _, f := range s.files {
		fmt.Fprintf(&b, "\n  on disk: %s, %d bytes", f.name, len(f.data))
	}
	return b.String()
}
