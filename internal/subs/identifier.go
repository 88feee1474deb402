package subs

import "hash/fnv"

// The client uses Subscription Identifiers from FirstID to LastID internally. Applications must not
// use them and do not see them. Requests to a server without Subscription Identifiers have none.
const (
	FirstID  = 1 << 27
	LastID   = 1<<28 - 1
	MarkerID = FirstID
	StatusID = FirstID + 1
	ViewID   = FirstID + 4     // first identifier for views
	LastView = firstFilter - 1 // last identifier for views

	firstFilter = FirstID + 1<<17 // first identifier for filters
	variants    = 8               // number of identifiers per filter; see Variant
	filters     = (LastID + 1 - firstFilter - oldCount) / variants

	// An earlier version of the client used identifiers that were not derived from the filter. A
	// session may still contain some.
	oldFirst = 200_000_000
	oldCount = 65_536
)

// Internal reports whether the client uses a Subscription Identifier internally.
func Internal(id uint32) bool { return id >= FirstID && id <= LastID }

// OfFilter reports whether a Subscription Identifier was derived from a filter.
func OfFilter(id uint32) bool {
	return id >= firstFilter && id <= LastID && (id < oldFirst || id >= oldFirst+oldCount)
}

// FilterID returns the Subscription Identifier of a filter. It is the same in every process,
// because a resumed session may contain messages with identifiers of an earlier process. If another
// filter already has the identifier, probe is the number of identifiers tried before.
func FilterID(filter string, probe int) uint32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(filter))
	id := firstFilter + uint32((h.Sum64()+uint64(probe))%filters)*variants
	if id >= oldFirst {
		id += oldCount
	}
	return id
}

// Variant returns the identifier that this process uses instead of id. Each process selects a
// variant at random. So it can distinguish messages for its own SUBSCRIBE from messages that wait
// in the session for a SUBSCRIBE of an earlier process.
func Variant(id uint32, process uint32) uint32 { return id + process%variants }

// SplitVariant is the inverse of Variant.
func SplitVariant(id uint32) (of, process uint32) {
	if !OfFilter(id) {
		return id, 0
	}
	return id &^ (variants - 1), id % variants
}
