package reliability

import (
	"context"
	"fmt"
	"time"
)

// TimeoutError reports that an acknowledgement did not arrive in time. The outcome is
// unknown: the server may have the message. Do not publish it again, which makes a
// second one: a stored message is still being delivered, so wait for its Delivery.
type TimeoutError struct{ After time.Duration }

// Error describes the state and what to do.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("reliability: no acknowledgement after %v, outcome unknown; do not publish again: the stored message is still being delivered; wait for its Delivery", e.After)
}

// Is reports that a TimeoutError is a context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true, for net.Error and os.IsTimeout.
func (e *TimeoutError) Timeout() bool { return true }

// Await waits until done is closed or receives a value. It returns nil then, also if the timeout or
// ctx ends at the same time. It returns [*TimeoutError] after timeout, and the cause of ctx if ctx
// ends first: the outcome is unknown. A timeout of zero or less means none.
func Await(ctx context.Context, timeout time.Duration, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
	}
	var expired <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	var err error
	select {
	case <-done:
		return nil
	case <-expired:
		err = &TimeoutError{After: timeout}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// select chooses at random among ready cases; a known outcome takes precedence.
	select {
	case <-done:
		return nil
	default:
		return err
	}
}
