package reliability

import (
	"context"
	"fmt"
	"time"
)

// TimeoutError says that no acknowledgement came in time. The outcome is
// ambiguous: the broker may have the message. Publishing it again makes a
// second message; what was accepted durably is still on disk and goes on being
// sent, so wait for its Delivery instead.
type TimeoutError struct {
	After time.Duration
}

// Error says what is known and what to do.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("reliability: no acknowledgement after %v, outcome unknown; do not publish again: the stored message is still being delivered, wait for its Delivery", e.After)
}

// Timeout returns true, as net.Error and os.IsTimeout have it.
func (e *TimeoutError) Timeout() bool { return true }

// Await waits until done is closed (or receives), for at most timeout; zero or
// less means no limit but ctx. It returns nil when done came first or together
// with another end, [*TimeoutError] after timeout, and the cause of ctx when
// that ended, which leaves the outcome just as unknown. It starts no goroutine
// and leaves no timer behind.
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
	// select picks at random among what is ready; an outcome that is known wins.
	select {
	case <-done:
		return nil
	default:
		return err
	}
}
