package outbox

import (
	"context"
	"errors"

	"github.com/mooring-mqtt/mooring/persistence"
)

// FullPolicy is what Add does when the store's MaxMessages or MaxBytes is reached.
type FullPolicy uint8

// The policies.
const (
	Reject     FullPolicy = iota // Add returns the store's error
	Block                        // Add waits for room
	DropOldest                   // the store drops older messages
	DropNewest                   // Add drops the new message
)

// admit stores d without waiting for the disk. With Block it waits for room: one
// call at a time tries again whenever a message has ended.
func (o *Outbox) admit(ctx context.Context, d *Draft) (persistence.Ticket, error) {
	ticket, err := o.enqueue(d)
	if o.cfg.WhenFull != Block || !storeFull(err) {
		return ticket, err
	}
	select {
	case o.blocked <- struct{}{}:
		defer func() { <-o.blocked }()
	case <-ctx.Done():
		return ticket, context.Cause(ctx)
	case <-o.closing.Done():
		return ticket, context.Cause(o.closing)
	}
	for {
		changed := o.ended.Changed()
		if ticket, err = o.enqueue(d); !storeFull(err) {
			return ticket, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ticket, context.Cause(ctx)
		case <-o.closing.Done():
			return ticket, context.Cause(o.closing)
		}
	}
}

// storeFull reports whether err is about a limit that FullPolicy applies to.
func storeFull(err error) bool {
	var full *persistence.FullError
	if errors.As(err, &full) {
		return full.Limit == "MaxMessages" || full.Limit == "MaxBytes"
	}
	return errors.Is(err, persistence.ErrFull) // a custom store may not name the limit
}

// dropped is the End of a message that the store has dropped.
func dropped(d persistence.Drop) End {
	if d.Cause == persistence.Conflated {
		return End{State: Dropped, Cause: Replaced, stored: true}
	}
	return End{State: Dropped, Cause: StoreFull, Err: persistence.ErrFull, stored: true}
}
