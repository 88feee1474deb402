package client

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// SyncEnd is how the end of the retained messages was known.
type SyncEnd uint8

const (
	NotSynced SyncEnd = iota // it is not known yet
	// ByMarker: a message that the client published to itself after its SUBSCRIBE came
	// back. MQTT does not promise that it comes after retained messages of other
	// topics, but every server with one queue for a client keeps that order.
	ByMarker
	// BySilence: nothing came for a while, and the marker was not allowed or did not come back.
	BySilence
)

// String returns its name in lower case.
func (e SyncEnd) String() string {
	return nameOf(e, "sync end", "not synced", "by marker", "by silence")
}

// ErrTooManyFilters is returned when 10,000 filters are watched, mirrored or fetched already.
var ErrTooManyFilters = safe.New("client: 10,000 filters are watched, mirrored or fetched already; close some, or use one filter with a wildcard for many")

// view is what StatusWatch and RetainedView have in common: the use of a filter,
// whether all retained messages have come, and an end.
type view struct {
	uses  *views
	use   retained.View
	stops [2]func() bool // of the contexts that end it

	mu      sync.Mutex
	end     SyncEnd
	err     error // the server refused it
	closed  bool
	changed notify.Broadcast // one of these has changed
}

// begin opens a view, which ends when ctx or ending ends, or close is called.
func (v *view) begin(ctx, ending context.Context, uses *views, use retained.View) error {
	err := checkRetainedFilter(use.Filter)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ending.Err() != nil:
		return ErrClosed
	}
	use.Silence = cmp.Or(use.Silence, time.Second)
	v.uses, v.use = uses, use
	if err := uses.open(&v.use); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stops = [...]func() bool{context.AfterFunc(ctx, v.close), context.AfterFunc(ending, v.close)}
	return nil
}

// close ends the view. It may be called in every state, and more than once.
func (v *view) close() {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return
	}
	v.closed = true
	v.mu.Unlock()
	v.changed.Notify()
	for _, stop := range v.stops {
		stop()
	}
	v.uses.close(&v.use)
}

// full notes that a limit of the view has refused a message.
func (v *view) full(topic string) {
	if v.uses != nil {
		v.uses.losses.full(v.use.Filter, topic)
	}
}

// set records how far the sync is.
func (v *view) set(end SyncEnd, err error) {
	v.mu.Lock()
	v.end, v.err = end, err
	v.mu.Unlock()
	v.changed.Notify()
}

// synced waits until all retained messages have come.
func (v *view) synced(ctx context.Context) (SyncEnd, error) {
	for {
		changed := v.changed.Changed()
		v.mu.Lock()
		end, err, closed := v.end, v.err, v.closed
		v.mu.Unlock()
		switch {
		case closed:
			return NotSynced, ErrClosed
		case end != NotSynced:
			return end, nil
		case err != nil:
			return NotSynced, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return NotSynced, context.Cause(ctx)
		}
	}
}

// checkRetainedFilter returns why retained messages cannot be requested by a filter, or nil.
func checkRetainedFilter(filter string) error {
	if isShared(filter) {
		return &FieldError{Field: "Topic Filter", Problem: "is a Shared Subscription, which brings no retained messages; use the filter after the share name"}
	}
	return fieldError(wire.CheckTopicFilter(filter))
}

// alarm calls a function at the earliest time that it is set to. Its owner calls it under a lock.
type alarm struct {
	timer *time.Timer // its function calls rang
	at    time.Time   // when timer fires; zero: not
	off   bool        // it is not set any more
}

// set has f called at a time; zero: not.
func (a *alarm) set(at time.Time, f func()) {
	if a.off || at.IsZero() || !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	if a.at = at; a.timer == nil {
		a.timer = time.AfterFunc(time.Until(at), f)
	} else {
		a.timer.Reset(time.Until(at))
	}
}

func (a *alarm) rang() { a.at = time.Time{} }

// stop ends the alarm.
func (a *alarm) stop() {
	if a.off = true; a.timer != nil {
		a.timer.Stop()
	}
}
