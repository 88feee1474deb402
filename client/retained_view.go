package client

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// RetainedView is a copy of a server's retained messages that is kept up to date;
// see MirrorRetained. All methods are safe for concurrent use. The Messages that
// they return are shared: do not change them.
type RetainedView struct {
	view
	o       RetainedOptions
	changes changes[RetainedChange]

	held    sync.Mutex
	entries map[string]*retainedEntry
	bytes   int
	epoch   int  // counts connections
	unsure  bool // since the last fetch
	passes  int  // fetches that ended unsure
	missing int  // messages that were not taken, since it was synced last
	dropped uint64
	expiry  expiry
}

type retainedEntry struct {
	m       *Message
	epoch   int       // in which it was last heard of
	expires time.Time // zero: never
}

// RetainedKind says what a RetainedChange tells.
type RetainedKind uint8

const (
	RetainedSet     RetainedKind = iota // Message is the retained message of its topic now
	RetainedCleared                     // that of Message's topic is gone; Message is the last one
	RetainedSynced                      // all that the server has retained is known
	RetainedFull                        // Message is one too many, by RetainedOptions, and not in the view; told once per sync
	RetainedMissed                      // the reader was too slow; look at All
)

// RetainedChange is one change of a RetainedView.
type RetainedChange struct {
	Kind    RetainedKind
	Message *Message
	Missed  int // how many changes are not told, if Kind is RetainedMissed
}

// MirrorRetained keeps a copy of the retained messages of all topics that match
// filter, until ctx ends, the client does, or Close is called. It returns at once;
// Synced waits. Publications without the RETAIN flag do not change it, but for one
// thing: where a handler's filter overlaps, what is published in the moment of the
// fetch may be either, so that is made three times more at most, and then it is taken
// to be retained. On each connection everything is fetched again, as FetchRetained does,
// and what is not there any more goes; meanwhile the view is as it was. For subscriptions of the
// program's, kept sessions, and errors, see FetchRetained and WatchStatus.
func (c *Client) MirrorRetained(ctx context.Context, filter string, o RetainedOptions) (*RetainedView, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	v := &RetainedView{o: o.withDefaults(), entries: map[string]*retainedEntry{}}
	v.changes = changes[RetainedChange]{limit: v.o.Queue, missed: func(n int) RetainedChange {
		return RetainedChange{Kind: RetainedMissed, Missed: n}
	}}
	use := retained.View{Filter: filter, QoS: byte(AtLeastOnce), RetainAsPublished: true, Silence: v.o.Silence, User: (*mirror)(v)}
	if err := v.open(ctx, c, use, (*mirror)(v).finish); err != nil {
		return nil, err
	}
	return v, nil
}

// Synced waits until all that the server has retained is known on the present
// connection, and says how that was known. Errors: ctx's cause, *RefusedError,
// ErrClosed, and *RetainedLimitError if it was too much, so that the view is not
// whole.
func (v *RetainedView) Synced(ctx context.Context) (SyncEnd, error) {
	end, err := v.synced(ctx)
	v.held.Lock()
	defer v.held.Unlock()
	if err == nil && v.missing > 0 {
		err = &RetainedLimitError{Messages: len(v.entries), Bytes: v.bytes}
	}
	return end, err
}

// Get returns the retained message of a topic.
func (v *RetainedView) Get(topic string) (_ *Message, ok bool) {
	v.held.Lock()
	defer v.held.Unlock()
	e := v.entries[topic]
	if e == nil || e.expired() {
		return nil, false
	}
	return e.m, true
}

// Match returns the retained messages of the view whose topics match a filter, by
// topic. Wildcards match as in a subscription: one in the first level does not
// match topics that begin with $ [MQTT-4.7.2-1].
func (v *RetainedView) Match(filter string) ([]*Message, error) {
	if err := checkRetainedFilter(filter); err != nil {
		return nil, err
	}
	return v.list(func(topic string) bool { return wire.Match(filter, topic) }), nil
}

// All yields every retained message of the view, by topic, as it is when the loop
// begins.
func (v *RetainedView) All() iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		for _, m := range v.list(func(string) bool { return true }) {
			if !yield(m) {
				return
			}
		}
	}
}

func (v *RetainedView) list(want func(topic string) bool) (list []*Message) {
	v.held.Lock()
	for topic, e := range v.entries {
		if want(topic) && !e.expired() {
			list = append(list, e.m)
		}
	}
	v.held.Unlock()
	slices.SortFunc(list, func(a, b *Message) int { return strings.Compare(a.Topic, b.Topic) })
	return list
}

// Len is how many messages are in the view. One that has expired goes within a
// second.
func (v *RetainedView) Len() int {
	v.held.Lock()
	defer v.held.Unlock()
	return len(v.entries)
}

// Refused is how often a message was not taken because of RetainedOptions.
func (v *RetainedView) Refused() uint64 {
	v.held.Lock()
	defer v.held.Unlock()
	return v.dropped
}

// Changes returns what changes from this call on, for one loop, which ends when the
// view does. Up to RetainedOptions.Queue changes wait for that loop from here on.
func (v *RetainedView) Changes() iter.Seq[RetainedChange] { return v.changes.read() }

// Close ends the view. What is in it can still be asked. It is safe in each state.
func (v *RetainedView) Close() { v.close() }

func (e *retainedEntry) expired() bool { return !e.expires.IsZero() && !time.Now().Before(e.expires) }

// mirror is the view as the user of a tap.
type mirror RetainedView

func (v *mirror) take(m *Message, from retained.Origin) {
	if from == retained.Past || from == retained.Live && !m.Retain {
		return
	}
	v.held.Lock()
	defer v.held.Unlock()
	if !m.Retain {
		v.unsure = true // published while we fetched, retained or not
	}
	old := v.entries[m.Topic]
	if len(m.Payload) == 0 {
		if old != nil {
			v.removeLocked(old)
		}
		return
	}
	size, count := m.size(), 1
	if old != nil {
		size, count = size-old.m.size(), 0
	}
	if v.bytes+size > v.o.MaxBytes || len(v.entries)+count > v.o.MaxMessages {
		if v.dropped++; v.missing == 0 {
			v.changes.push(RetainedChange{Kind: RetainedFull, Message: m})
		}
		v.missing++
		if old != nil { // it is not what is retained
			v.removeLocked(old)
		}
		return
	}
	e := &retainedEntry{m: m, epoch: v.epoch}
	if m.Expiry > 0 {
		e.expires = time.Now().Add(m.Expiry)
	}
	v.entries[m.Topic] = e
	v.bytes += size
	v.expireAtLocked(e.expires)
	if old == nil || !same(old.m, m) {
		v.changes.push(RetainedChange{Kind: RetainedSet, Message: m})
	}
}

func (v *mirror) removeLocked(e *retainedEntry) {
	delete(v.entries, e.m.Topic)
	v.bytes -= e.m.size()
	v.changes.push(RetainedChange{Kind: RetainedCleared, Message: e.m})
}

// maxPasses bounds how often everything is fetched because something was published
// meanwhile of which only another fetch says whether it is retained, or had no room
// that there is now. Behind the last one it is taken to be retained.
const maxPasses = 3

func (v *mirror) filled(end SyncEnd) (again bool) {
	v.held.Lock()
	before := len(v.entries)
	for _, e := range v.entries {
		if e.epoch != v.epoch || e.expired() {
			v.removeLocked(e)
		}
	}
	room := v.missing > 0 && len(v.entries) < before // there is some for it now
	if (v.unsure || room) && v.passes < maxPasses {
		v.passes++
		v.nextLocked()
		v.held.Unlock()
		return true
	}
	v.changes.push(RetainedChange{Kind: RetainedSynced})
	v.held.Unlock()
	v.set(end, nil)
	return false
}

// nextLocked begins another fetch.
func (v *mirror) nextLocked() {
	v.epoch++
	v.missing, v.unsure = 0, false
}

func (v *mirror) lost(time.Time) { v.refill(false) }

func (v *mirror) refill(again bool) {
	v.held.Lock()
	v.nextLocked()
	if !again { // else two mirrors would have each other begin for ever
		v.passes = 0
	}
	v.held.Unlock()
	v.set(NotSynced, nil)
}

func (v *mirror) refused(err error) { v.set(NotSynced, err) }

// same reports whether two messages of a topic say the same.
func same(a, b *Message) bool {
	return a.ID == b.ID && a.ContentType == b.ContentType && bytes.Equal(a.Payload, b.Payload) && slices.Equal(a.UserProperties, b.UserProperties)
}
