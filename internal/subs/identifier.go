package subs

import "hash/fnv"

// Subscription Identifiers from FirstID to LastID are the client's own: applications may neither
// use nor see them. A server without Subscription Identifiers is asked without them.
const (
	FirstID  = 1 << 27
	LastID   = 1<<28 - 1
	MarkerID = FirstID
	StatusID = FirstID + 1
	ViewID   = FirstID + 4     // the first of those for views
	LastView = firstFilter - 1 // the last

	firstFilter = FirstID + 1<<17 // the first of those of filters
	variants    = 8               // of each, see Variant
	filters     = (LastID + 1 - firstFilter - oldCount) / variants

	// An earlier version of the client used identifiers that were not derived from the filter. A
	// session may still have some.
	oldFirst = 200_000_000
	oldCount = 65_536
)

// Internal reports whether a Subscription Identifier is one of the client's own.
func Internal(id uint32) bool { return id >= FirstID && id <= LastID }

// OfFilter reports whether a Subscription Identifier was derived from a filter.
func OfFilter(id uint32) bool {
	return id >= firstFilter && id <= LastID && (id < oldFirst || id >= oldFirst+oldCount)
}

// FilterID returns the Subscription Identifier of a filter: the same in every process, since the
// queue of a resumed session carries identifiers that an earlier process has used. For a filter
// whose identifier another one has, probe is the number of identifiers that were taken.
func FilterID(filter string, probe int) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(filter))
	id := firstFilter + uint32((h.Sum64()+uint64(probe))%filters)*variants
	if id >= oldFirst {
		id += oldCount
	}
	return id
}

// Variant returns the identifier of a filter that a process uses in place of id. Each process chooses
// a variant at random. So it can distinguish the messages for its own SUBSCRIBE from those that wait
// in the session for a SUBSCRIBE of an earlier process.
func Variant(id uint32, process uint32) uint32 { return id + process%variants }

// SplitVariant undoes Variant.
func SplitVariant(id uint32) (of, process uint32) {
	if !OfFilter(id) {
		return id, 0
	}
	return id &^ (variants - 1), id % variants
}
