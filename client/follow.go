package client

import (
	"context"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// follower is what StatusWatch and RetainedView have in common: a tap, whether all
// that is retained came, and an end.
type follower struct {
	c    *Client
	tap  *tap
	stop func() bool // stops waiting for the context's end

	mu      sync.Mutex
	end     SyncEnd
	err     error // the server refused it
	closed  bool
	changed chan struct{} // closed and replaced when one of these changes
	ended   func()        // what the owner does at the end; called once, without mu
}

// follow begins to follow a filter. ended is called once, when ctx ends or the
// client does, or by close.
func (c *Client) follow(ctx context.Context, f *follower, t *tap, ended func()) error {
	if err := checkRetainedFilter(t.filter); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	def(&t.silence, time.Second)
	f.c, f.tap, f.ended, f.changed = c, t, ended, make(chan struct{})
	if !c.views.add(f) {
		return ErrClosed
	}
	if err := c.addTap(t); err != nil {
		c.views.remove(f)
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop = context.AfterFunc(ctx, f.close)
	return nil
}

// close is safe in each state, and called again does nothing.
func (f *follower) close() {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.closed = true
	f.changedLocked()
	stop := f.stop
	f.mu.Unlock()
	if stop != nil {
		stop()
	}
	f.c.removeTap(f.tap)
	f.ended()
	f.c.views.remove(f)
}

// set notes how far the sync is.
func (f *follower) set(end SyncEnd, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end, f.err = end, err
	f.changedLocked()
}

func (f *follower) changedLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// synced waits until all that is retained has come.
func (f *follower) synced(ctx context.Context) (SyncEnd, error) {
	for {
		f.mu.Lock()
		end, err, closed, changed := f.end, f.err, f.closed, f.changed
		f.mu.Unlock()
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

// views are the followers that are open, and the goroutines that tell the program.
type views struct {
	mu      sync.Mutex
	open    map[*follower]struct{}
	closed  bool
	tellers sync.WaitGroup
}

func (v *views) add(f *follower) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	if v.open == nil {
		v.open = map[*follower]struct{}{}
	}
	v.open[f] = struct{}{}
	return true
}

func (v *views) remove(f *follower) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, f)
}

// tell runs what tells the program.
func (v *views) tell(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.tellers.Go(f)
	}
}

// endViews closes all of them.
func (c *Client) endViews() {
	c.views.mu.Lock()
	c.views.closed = true
	var list []*follower
	for f := range c.views.open {
		list = append(list, f)
	}
	c.views.mu.Unlock()
	for _, f := range list {
		f.close()
	}
}

// wait waits for the functions of the program's that are told, when no more can come.
func (v *views) wait(limit time.Duration) {
	told := make(chan struct{})
	go func() {
		v.tellers.Wait()
		close(told)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
	}
}

// checkRetainedFilter says why retained messages cannot be asked for by a filter.
func checkRetainedFilter(filter string) error {
	if err := wire.CheckTopicFilter(filter); err != nil {
		return fieldError(err)
	}
	if isShared(filter) {
		return &FieldError{Field: "Topic Filter", Problem: "is a Shared Subscription, which brings no retained messages; use the filter behind the share name"}
	}
	return nil
}
