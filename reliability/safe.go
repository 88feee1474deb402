package reliability

import "errors"

// SafeToRetry reports whether an operation that returned err certainly had no effect,
// so that repeating it cannot make a duplicate. It knows the errors of all packages of
// this module. It returns false for nil, for other errors, and where the effect is
// unknown, as after a timeout. Whether and when a repetition will succeed is another
// question; see [Class.Retryable] and [OpenError].
//
// An error type takes part by a method SafeToRetry() bool. The first one counts that
// errors.As finds.
func SafeToRetry(err error) bool {
	var e interface {
		error
		SafeToRetry() bool
	}
	return errors.As(err, &e) && e.SafeToRetry()
}
