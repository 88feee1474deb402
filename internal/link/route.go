package link

import (
	"net/url"
	"time"
)

// route selects the server of each attempt. Attempts form rounds. In a round, each server is tried
// at most once, and one after the other without a delay. A round ends when no server is left that
// may be tried, or when a stable connection has ended. After a short connection, the round goes on
// after a short delay. A postponed server is not tried before its time, and the other servers do
// not wait for it.
type route struct {
	list    []*url.URL
	start   int                  // index of the server with which a round begins
	current int                  // index of the last tried server, or of the one that redirected to it
	again   *url.URL             // tried next, even if it was tried in this round; nil: none
	lead    *url.URL             // tried before the list in the next round, or in this one after a redirect; nil: none
	round   time.Time            // when the round begins, has begun, or goes on
	begun   bool                 // there was an attempt of the round
	tried   map[string]bool      // by URL; servers that were tried in this round
	later   map[string]time.Time // by URL; when a postponed server may be tried
}

func newRoute(list []*url.URL) route {
	return route{list: append([]*url.URL(nil), list...), tried: map[string]bool{}, later: map[string]time.Time{}}
}

// next returns the server of the next attempt, which begins now.
func (r *route) next(now time.Time) *url.URL {
	server := r.again
	if r.again = nil; server == nil {
		server = r.choose(now)
	}
	delete(r.later, server.String())
	r.begun = r.begun || !r.round.After(now)
	if r.begun { // otherwise the server was postponed, and is tried again in the coming round
		r.tried[server.String()] = true
	}
	return server
}

// choose returns the first server that may be tried now, or the one that may be tried first.
func (r *route) choose(now time.Time) *url.URL {
	if lead := r.lead; lead != nil && r.open(lead) && !r.due(lead).After(now) {
		r.lead = nil
		return lead
	}
	best := -1
	for k := range r.list {
		i := (r.start + k) % len(r.list)
		if s := r.list[i]; r.open(s) && (best < 0 || r.due(s).Before(r.due(r.list[best]))) {
			best = i
		}
		if best >= 0 && !r.due(r.list[best]).After(now) {
			break
		}
	}
	r.current = max(best, 0)
	return r.list[r.current]
}

// open reports whether a server was not tried in this round.
func (r *route) open(server *url.URL) bool { return !r.tried[server.String()] }

// due returns when an open server may be tried.
func (r *route) due(server *url.URL) time.Time {
	if t, postponed := r.later[server.String()]; postponed {
		return t
	}
	return r.round
}

// wait returns how long no server may be tried. It returns false if the round has ended.
func (r *route) wait(now time.Time) (time.Duration, bool) {
	var first time.Time
	found := false
	for _, s := range append(r.list[:len(r.list):len(r.list)], r.lead) {
		if s != nil && r.open(s) && (!found || r.due(s).Before(first)) {
			first, found = r.due(s), true
		}
	}
	return max(0, first.Sub(now)), found && (!first.After(now) || !first.After(r.round))
}

// beginRound begins a round after a delay.
func (r *route) beginRound(now time.Time, delay time.Duration) {
	r.round, r.begun = now.Add(delay), false
	clear(r.tried)
	for server, t := range r.later {
		if !t.After(now) {
			delete(r.later, server)
		}
	}
}

// pause delays the other servers of the round.
func (r *route) pause(now time.Time, delay time.Duration) { r.round = now.Add(delay) }

// rest is like beginRound, but no server is tried earlier, not even a postponed one.
func (r *route) rest(now time.Time, delay time.Duration) {
	r.beginRound(now, delay)
	for server, t := range r.later {
		if t.Before(r.round) {
			delete(r.later, server)
		}
	}
}

// beginNow begins a round now, with all servers.
func (r *route) beginNow(now time.Time) {
	r.beginRound(now, 0)
	clear(r.later)
}

// ended selects the server with which the next round begins, after the end of a connection. The
// server of a stable connection is tried first, because it has the session. After a short
// connection, the next server of the list is tried first, because the other may end every
// connection.
func (r *route) ended(server *url.URL, stable bool) {
	r.start, r.lead = r.current, nil
	switch {
	case !stable:
		r.start = (r.current + 1) % len(r.list)
	case !r.lists(server):
		r.lead = server
	}
}

// redirect makes a server the next one. If permanent is set, it replaces the server that redirected
// to it.
func (r *route) redirect(to *url.URL, permanent bool) {
	if r.lead = to; permanent {
		r.list[r.current] = to
	}
}

// lists reports whether a server is in the list.
func (r *route) lists(server *url.URL) bool {
	for _, s := range r.list {
		if s.String() == server.String() {
			return true
		}
	}
	return false
}

// servers returns the number of different servers in the list.
func (r *route) servers() int {
	different := map[string]bool{}
	for _, s := range r.list {
		different[s.String()] = true
	}
	return len(different)
}
