package faultfs

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"
)

// State is a possible content of the disk after a crash.
type State struct {
	// Cut is the number of operations before the crash. Unsynced ones among them may be missing or
	// torn.
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

// FS returns the file system after the crash. All of its content is durable.
func (s *State) FS() *FS {
	d := newDisk()
	for _, f := range s.files {
		d.add(f.name, f.data)
	}
	return newFS(d)
}

var hashSeed = maphash.MakeSeed()

// Hash returns a hash of the contents. It differs between processes.
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

// String describes which unsynced changes are in the state. It must be called before the next state
// is built.
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
