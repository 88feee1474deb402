package reliability

import (
	"context"
	"fmt"
	"time"
)

// TimeoutError reports that an acknowledgement did not arrive in time. The outcome is unknown,
// because the server may have the message. Do not publish the message again, because that would
// create a second message. If the message is stored, the client still delivers it. In this case,
// wait for its Delivery.
type TimeoutError struct{ After time.Duration }

// Error returns the error text, which includes advice.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("reliability: no acknowledgement after %v: outcome unknown; do not publish again, wait for the Delivery: the stored message is still being delivered", e.After)
}

// Is makes errors.Is(err, context.DeadlineExceeded) true for a TimeoutError.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true. The interface net.Error and the function os.IsTimeout need this method.
func (e *TimeoutError) Timeout() bool { return true }

// Await waits until done is closed or a value can be received from done, and then returns nil. It
// returns nil even if the timeout or ctx ends at the same time. If the timeout ends first, it
// returns [*TimeoutError]. If ctx ends first, it returns the cause of ctx. After either error, the
// outcome is unknown. A timeout that is zero or negative means no timeout.
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
	// Check done first: select chooses at random among ready cases, but a known outcome takes
	// precedence.
	select {
	case <-done:
		return nil
	default:
		return err
	}
}
