package reliability

import "errors"

// SafeToRetry reports whether an operation that returned err certainly had no effect, so that
// repeating it cannot create a duplicate. It supports the errors of all packages of this module. It
// returns false for nil, for other errors, and if the effect is unknown, as after a timeout. It
// does not report whether a repetition will succeed; see [Class.Retryable] and [OpenError].
//
// An error type supports SafeToRetry by a method SafeToRetry() bool. If an error wraps several such
// errors, the first one that errors.As finds decides.
func SafeToRetry(err error) bool {
	var e interface {
		error
		SafeToRetry() bool
	}
	return errors.As(err, &e) && e.SafeToRetry()
}
