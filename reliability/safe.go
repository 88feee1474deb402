package reliability

import "errors"

// SafeToRetry reports whether an operation that returned err certainly had no
// effect: nothing was accepted, stored or sent, so that repeating it cannot make a
// duplicate. It answers for the errors of all packages of this module. It returns
// false for nil, for errors that it does not know, and where the effect is unknown,
// as after a timeout.
//
// It does not say that a repetition will succeed, or when; see [Class.Retryable] and
// [OpenError].
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
