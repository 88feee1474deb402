package ledger

import (
	"crypto/rand"
	"maps"
	"slices"
)

// Seen maps the inbound packet identifiers whose messages were handled to the fingerprints of the
// messages. The fingerprint is 0 if an earlier release recorded the identifier.
type Seen map[uint16]uint64

// Add adds an identifier. It reports whether that changed the map.
func (s *Seen) Add(id uint16, fingerprint uint64) (changed bool) {
	if *s == nil {
		*s = Seen{}
	}
	old, known := (*s)[id]
	(*s)[id] = fingerprint
	return !known || old != fingerprint
}

// Remove removes an identifier. It reports whether that changed the map.
func (s Seen) Remove(id uint16) (changed bool) {
	_, changed = s[id]
	delete(s, id)
	return changed
}

// List returns the identifiers in ascending order.
func (s Seen) List() []uint16 { return slices.Sorted(maps.Keys(s)) }

// EnsureKey generates a key if the log has none. A log has no key if it is new, if an earlier
// release wrote it, or if all its checkpoints are damaged. Fingerprints that were made with another
// key are useless, so EnsureKey sets them to 0.
func (g *Ledger) EnsureKey() {
	if g.Key != [16]byte{} {
		return
	}
	_, _ = rand.Read(g.Key[:]) // never fails
	for id := range g.Seen {
		g.Seen[id] = 0
	}
}
