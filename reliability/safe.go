package reliability

import "errors"

// SafeToRetry reports whether an operation that returned err certainly had no effect. If so, a
// repetition cannot create a duplicate. SafeToRetry supports the errors of all packages of this
// module. It returns false for nil and for errors that do not support it. It also returns false if
// the effect is unknown, for example after a timeout. It does not report whether a repetition will
// succeed. For that, see [Class.Retryable] and [OpenError].
//
// An error type supports this function if it has a method SafeToRetry() bool. If an error wraps
// several such errors, SafeToRetry calls the method of the first one that errors.As finds.
func SafeToRetry(err error) bool {
	var e interface {
		error
		SafeToRetry() bool
	}
	return errors.As(err, &e) && e.SafeToRetry()
}
