package ledger

import (
	"crypto/rand"
	"maps"
	"slices"
)

// Seen is the inbound packet identifiers whose messages were handled, each with the fingerprint of
// its message; 0: an earlier release recorded it.
type Seen map[uint16]uint64

// Add adds an identifier, and reports whether that is a change.
func (s *Seen) Add(id uint16, fingerprint uint64) (changed bool) {
	if *s == nil {
		*s = Seen{}
	}
	old, known := (*s)[id]
	(*s)[id] = fingerprint
	return !known || old != fingerprint
}

// Remove removes an identifier, and reports whether it was a member.
func (s Seen) Remove(id uint16) (changed bool) {
	_, changed = s[id]
	delete(s, id)
	return changed
}

// List returns the identifiers, ascending.
func (s Seen) List() []uint16 { return slices.Sorted(maps.Keys(s)) }

// EnsureKey makes a key if there is none: the log is new, an earlier release wrote it, or all its
// checkpoints are damaged. Fingerprints of another key mean nothing.
func (g *Ledger) EnsureKey() {
	if g.Key != [16]byte{} {
		return
	}
	_, _ = rand.Read(g.Key[:]) // never fails
	for id := range g.Seen {
		g.Seen[id] = 0
	}
}
