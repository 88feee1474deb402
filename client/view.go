package client

import (
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
	// NotSynced: it is not known yet.
	NotSynced SyncEnd = iota
	// ByMarker: a message that the client published to itself after its SUBSCRIBE came
	// back after them. MQTT does not promise that order from one topic to another;
	// mosquitto keeps it, and so does every server with one queue for a client.
	ByMarker
	// BySilence: nothing came for a while. The server does not allow the client to
	// publish or to subscribe to the marker's topic, or the marker did not come.
	BySilence
)

// String returns its name in lower case.
func (e SyncEnd) String() string {
	switch e {
	case ByMarker:
		return "by marker"
	case BySilence:
		return "by silence"
	}
	return "not synced"
}

// ErrTooManyFilters is returned when 10,000 filters are watched, mirrored or fetched
// already.
var ErrTooManyFilters = safe.New("client: 10,000 filters are watched, mirrored or fetched already; close some, or use one filter with a wildcard for many")

// view is what StatusWatch and RetainedView have in common: the use of a filter,
// whether all retained messages have come, and an end.
type view struct {
	uses  viewUses
	use   retained.View
	stops [2]func() bool // of the contexts that end it

	mu      sync.Mutex
	end     SyncEnd
	err     error // the server refused it
	closed  bool
	changed notify.Broadcast // one of these has changed
}

// viewUses begins and ends the use of a filter.
type viewUses interface {
	open(*retained.View) error
	close(*retained.View)
}

// begin opens a view, which ends when ctx or ending ends, or close is called.
func (v *view) begin(ctx, ending context.Context, uses viewUses, use retained.View) error {
	if err := checkRetainedFilter(use.Filter); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if ending.Err() != nil {
		return ErrClosed
	}
	if use.Silence == 0 {
		use.Silence = time.Second
	}
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

// checkRetainedFilter returns why retained messages cannot be requested by a filter,
// or nil.
func checkRetainedFilter(filter string) error {
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	if isShared(filter) {
		return &FieldError{Field: "Topic Filter", Problem: "is a Shared Subscription, which brings no retained messages; use the filter after the share name"}
	}
	return nil
}
