package index

import "github.com/mooring-mqtt/mooring/persistence/internal/record"

// Ref is the place where the state of a message is kept. The zero value is no
// message. It is valid until the catalog changes.
type Ref struct {
	x *Index // counts it
	i int
	m *movedMessage // instead of i, or nil
}

// OK reports whether there is such a message.
func (r Ref) OK() bool { return r.x != nil }

// Alive reports whether there is such a message and it has no result.
func (r Ref) Alive() bool { return r.OK() && r.State() < Done }

func (r Ref) state() *uint8 {
	if r.m != nil {
		return &r.m.state
	}
	return &r.x.states[r.i]
}

// State returns the state.
func (r Ref) State() uint8 { return *r.state() & stateMask }

// Priority returns the priority.
func (r Ref) Priority() uint8 { return *r.state() >> levelShift }

// Loc returns the place of the record.
func (r Ref) Loc() Loc {
	if r.m != nil {
		return r.m.loc
	}
	return r.x.locs[r.i]
}

// Moved reports whether the record was written again.
func (r Ref) Moved() bool { return r.m != nil }

// Set sets the state.
func (r Ref) Set(state uint8) {
	p := r.state()
	r.x.count(*p, -1)
	*p = *p&^stateMask | state
	r.x.count(*p, 1)
}

// Extra returns nil if no receipts are wanted.
func (r Ref) Extra() *Extra {
	switch {
	case r.m != nil:
		return &r.m.extra
	case r.x.Keep:
		return &r.x.extras[r.i]
	}
	return nil
}

// SetResult sets the result in Extra.
func (r Ref) SetResult(res record.Result, at int64) {
	if e := r.Extra(); e != nil {
		e.Result, e.At = res, at
	}
}

// EndedIn notes that a commit ends the message, or moves it away.
func (r Ref) EndedIn(commit uint64) { r.x.Emptied = max(r.x.Emptied, commit) }
