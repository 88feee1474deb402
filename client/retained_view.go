package client

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// RetainedView is a local copy of a server's retained messages that is kept up to date, see
// MirrorRetained. All methods are safe for concurrent use. Do not change the Messages that they
// return, because all callers share them.
type RetainedView struct {
	view
	o       RetainedOptions
	once    bool // the view is a fetch: it keeps only messages that are retained when it begins
	changes changes[RetainedChange]

	held     sync.Mutex
	entries  map[string]*retainedEntry
	bytes    int
	epoch    int  // number of fetches
	unsure   bool // since the last fetch, a message arrived that may or may not be retained
	passes   int  // fetches that ended unsure
	missing  int  // messages refused in this epoch
	refusals uint64
	over     bool
}

type retainedEntry struct {
	m       *Message
	epoch   int         // epoch in which it was received
	expires time.Time   // zero: never
	timer   *time.Timer // removes the entry when it expires
}

// RetainedKind is the kind of a RetainedChange.
type RetainedKind uint8

const (
	RetainedSet     RetainedKind = iota // Message has become the retained message of its topic
	RetainedCleared                     // the topic no longer has a retained message; Message is the last one
	RetainedSynced                      // the client now knows all retained messages
	RetainedFull                        // Message exceeds a limit in RetainedOptions and is not in the view; reported once per fetch
	RetainedMissed                      // the reader was too slow and changes were dropped; call All
)

// RetainedChange is one change of a RetainedView.
type RetainedChange struct {
	Kind    RetainedKind
	Message *Message
	Missed  int // number of dropped changes, if Kind is RetainedMissed
}

// MirrorRetained keeps a local copy of the retained messages of all topics that match filter. The
// copy is updated until ctx ends, the client ends, or Close is called. MirrorRetained returns at
// once. To wait for all retained messages, call Synced.
//
// On each connection the client fetches all messages again, as FetchRetained does. At the end of
// the fetch, it removes messages that are no longer retained. Messages that are published without
// the RETAIN flag do not change the view. The exception is a message that is published during the
// fetch on a topic that a handler's filter also matches. The client cannot know whether this
// message is retained. The client then repeats the fetch, up to three times. After the third time,
// it treats the message as retained.
//
// See FetchRetained and WatchStatus for the errors, and for the effect on the application's
// subscriptions and on sessions that the server keeps.
func (c *Client) MirrorRetained(ctx context.Context, filter string, o RetainedOptions) (*RetainedView, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	v := newRetainedView(o)
	v.changes.lost = func(n int) { c.views.losses.changes(filter, n) }
	use := retained.View{Filter: filter, QoS: byte(AtLeastOnce), RetainAsPublished: true, Silence: v.o.Silence, User: v}
	if err := v.begin(ctx, c.life.ending, &c.views, use); err != nil {
		return nil, err
	}
	return v, nil
}

func newRetainedView(o RetainedOptions) *RetainedView {
	o.MaxMessages = cmp.Or(o.MaxMessages, 100_000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<20)
	v := &RetainedView{o: o, entries: map[string]*retainedEntry{}}
	v.changes.limit, v.changes.missed = cmp.Or(o.Queue, 1024), func(n int) RetainedChange {
		return RetainedChange{Kind: RetainedMissed, Missed: n}
	}
	v.changes.bytes, v.changes.size = o.MaxBytes, func(c RetainedChange) int {
		if c.Message == nil {
			return 0
		}
		return c.Message.size()
	}
	return v
}

// Synced waits until the client has received all retained messages on the present connection.
// Synced returns how the client detected their end. Errors: the cause of ctx, *RefusedError,
// ErrClosed, and *RetainedLimitError if the retained messages exceed a limit in RetainedOptions.
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

// Match returns the retained messages whose topics match filter, ordered by topic. A wildcard in
// the first level does not match topics that begin with $, as in a subscription [MQTT-4.7.2-1].
func (v *RetainedView) Match(filter string) ([]*Message, error) {
	if err := checkRetainedFilter(filter); err != nil {
		return nil, err
	}
	return v.list(func(topic string) bool { return wire.Match(filter, topic) }), nil
}

// All returns an iterator over the retained messages, ordered by topic. The loop sees the messages
// that were in the view when it began.
func (v *RetainedView) All() iter.Seq[*Message] {
	return func(yield func(*Message) bool) {
		slices.Values(v.list(func(string) bool { return true }))(yield)
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

// Len returns the number of messages in the view.
func (v *RetainedView) Len() int {
	v.held.Lock()
	defer v.held.Unlock()
	return len(v.entries)
}

// Refused returns how many messages were not kept because they exceeded a limit in RetainedOptions.
func (v *RetainedView) Refused() uint64 {
	v.held.Lock()
	defer v.held.Unlock()
	return v.refusals
}

// Changes returns the changes that happen after this call, for use in one loop. The loop ends when
// the view ends. At most RetainedOptions.Queue changes wait for the loop.
func (v *RetainedView) Changes() iter.Seq[RetainedChange] { return v.changes.read() }

// Close ends the view. The content of the view can still be read. Close may be called more than
// once.
func (v *RetainedView) Close() { v.close() }

func (e *retainedEntry) expired() bool { return !e.expires.IsZero() && !time.Now().Before(e.expires) }

func (v *RetainedView) take(m *Message, from retained.Origin) {
	if from == retained.Past || from == retained.Live && (!m.Retain || v.once) || v.once && !m.Retain {
		return
	}
	v.held.Lock()
	defer v.held.Unlock()
	if v.over {
		return
	}
	if !m.Retain {
		v.unsure = true // published during the fetch; may or may not be retained
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
		v.refuseLocked(m, old)
		return
	}
	e := &retainedEntry{m: m, epoch: v.epoch}
	if m.Expiry > 0 {
		e.expires = time.Now().Add(m.Expiry) // the server does not report the expiry
		e.timer = time.AfterFunc(m.Expiry, func() { v.expire(e) })
	}
	old.stop()
	v.entries[m.Topic] = e
	v.bytes += size
	if old == nil || !same(old.m, m) {
		v.changes.push(RetainedChange{Kind: RetainedSet, Message: m})
	}
}

// refuseLocked records that a message exceeds the limits.
func (v *RetainedView) refuseLocked(m *Message, old *retainedEntry) {
	v.full(m.Topic)
	if v.refusals++; v.missing == 0 {
		v.changes.push(RetainedChange{Kind: RetainedFull, Message: m})
	}
	v.missing++
	if old != nil { // old is no longer the retained message
		v.removeLocked(old)
	}
}

func (v *RetainedView) expire(e *retainedEntry) {
	v.held.Lock()
	defer v.held.Unlock()
	if v.entries[e.m.Topic] == e && !v.over {
		v.removeLocked(e)
	}
}

func (e *retainedEntry) stop() {
	if e != nil && e.timer != nil {
		e.timer.Stop()
	}
}

func (v *RetainedView) finish() {
	v.held.Lock()
	v.over = true
	for _, e := range v.entries {
		e.stop()
	}
	v.held.Unlock()
	v.changes.close()
}

func (v *RetainedView) removeLocked(e *retainedEntry) {
	e.stop()
	delete(v.entries, e.m.Topic)
	v.bytes -= e.m.size()
	v.changes.push(RetainedChange{Kind: RetainedCleared, Message: e.m})
}

// maxPasses limits how often a fetch is repeated. The client repeats a fetch if it does not know
// whether a message published during the fetch is retained, or if a message that exceeded a limit
// fits now.
const maxPasses = 3

func (v *RetainedView) filled(end SyncEnd) (again bool) {
	v.held.Lock()
	before := len(v.entries)
	for _, e := range v.entries {
		if e.epoch != v.epoch || e.expired() {
			v.removeLocked(e)
		}
	}
	room := v.missing > 0 && len(v.entries) < before // it fits now
	if (v.unsure || room) && v.passes < maxPasses {
		v.passes++
		v.nextLocked()
		v.held.Unlock()
		return true
	}
	v.changes.push(RetainedChange{Kind: RetainedSynced})
	v.over = v.once
	v.held.Unlock()
	v.set(end, nil)
	return false
}

// nextLocked begins another fetch.
func (v *RetainedView) nextLocked() {
	v.epoch++
	v.missing, v.unsure = 0, false
}

func (v *RetainedView) lost(time.Time) { v.refill(false) }

func (v *RetainedView) refill(again bool) {
	v.held.Lock()
	defer v.held.Unlock()
	if v.over {
		return
	}
	v.nextLocked()
	if !again { // reset only here, because otherwise two mirrors would make each other fetch forever
		v.passes = 0
	}
	v.set(NotSynced, nil)
}

func (v *RetainedView) refused(err error) { v.set(NotSynced, err) }

// same reports whether two messages of a topic have the same content.
func same(a, b *Message) bool {
	return a.ID == b.ID && a.ContentType == b.ContentType && bytes.Equal(a.Payload, b.Payload) && slices.Equal(a.UserProperties, b.UserProperties)
}
