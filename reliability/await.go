package reliability

import (
	"context"
	"fmt"
	"time"
)

// TimeoutError reports that an acknowledgement did not arrive in time. The outcome is unknown: the
// server may have the message. Do not publish it again, because that would create a second message.
// A stored message is still being delivered, so wait for its Delivery.
type TimeoutError struct{ After time.Duration }

// Error returns the error text, which contains advice.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("reliability: no acknowledgement after %v: outcome unknown; do not publish again, wait for the Delivery: the stored message is still being delivered", e.After)
}

// Is reports whether target is context.DeadlineExceeded, which a TimeoutError matches.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true, for net.Error and os.IsTimeout.
func (e *TimeoutError) Timeout() bool { return true }

// Await waits until done is closed or receives a value, and then returns nil. It returns nil even
// if the timeout or ctx ends at the same time. It returns [*TimeoutError] after timeout, and the
// cause of ctx if ctx ends first; the outcome is then unknown. If timeout is zero or negative,
// there is no timeout.
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
	// select chooses at random among ready cases, but a known outcome takes precedence.
	select {
	case <-done:
		return nil
	default:
		return err
	}
}
