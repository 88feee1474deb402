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

// SyncEnd describes how the client detected that it had received all retained messages.
type SyncEnd uint8

const (
	NotSynced SyncEnd = iota // the client has not detected the end yet
	// ByMarker means that the client received the marker, a message that it published after its
	// SUBSCRIBE. MQTT does not guarantee that the marker follows retained messages of other topics.
	// Every server with one queue per client keeps that order.
	ByMarker
	// BySilence means that no message arrived for a while. There was no marker, or the server
	// refused it or did not deliver it.
	BySilence
)

// String returns the name in lower case.
func (e SyncEnd) String() string {
	return nameOf(e, "sync end", "not synced", "by marker", "by silence")
}

// ErrTooManyFilters is returned if 10,000 filters are already watched, mirrored or fetched.
var ErrTooManyFilters = safe.New("client: too many filters: 10,000 are watched, mirrored or fetched already; close some, or use a filter with a wildcard")

// view is the common part of StatusWatch and RetainedView: the internal subscription to a filter,
// the state of the sync, and the end.
type view struct {
	uses  *views
	use   retained.View
	stops [2]func() bool // of the contexts that end the view

	mu      sync.Mutex
	end     SyncEnd
	err     error // refusal by the server
	closed  bool
	changed notify.Broadcast // notified when one of these fields changes
}

// begin opens a view. It ends when ctx or ending ends, or when close is called.
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

// close ends the view. It may be called in any state, and more than once.
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

// full reports that a message exceeds a limit of the view.
func (v *view) full(topic string) {
	if v.uses != nil {
		v.uses.losses.full(v.use.Filter, topic)
	}
}

// set records the state of the sync.
func (v *view) set(end SyncEnd, err error) {
	v.mu.Lock()
	v.end, v.err = end, err
	v.mu.Unlock()
	v.changed.Notify()
}

// synced waits until all retained messages have been received.
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

// checkRetainedFilter returns an error if the filter cannot request retained messages.
func checkRetainedFilter(filter string) error {
	if isShared(filter) {
		return &FieldError{Field: "Topic Filter", Problem: "is a Shared Subscription, which delivers no retained messages; use the filter after the share name"}
	}
	return fieldError(wire.CheckTopicFilter(filter))
}

// alarm calls a function at the earliest of the times that were set. Its methods are called with a
// lock of the owner held.
type alarm struct {
	timer *time.Timer // its function calls rang
	at    time.Time   // when timer fires; zero if it is not set
	off   bool        // the alarm was stopped
}

// set schedules a call of f, unless at is zero.
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
// late returns how late the alarm is. If it is due, late clears it.
func (a *alarm) late(now time.Time) (d time.Duration) {
	if !a.at.IsZero() && !now.Before(a.at) {
		d, a.at = now.Sub(a.at), time.Time{}
	}
	return d
}

func (a *alarm) stop() {
	if a.off = true; a.timer != nil {
		a.timer.Stop()
	}
}
