// Package safe creates errors that declare whether the failed operation can be repeated without a
// duplicate, see reliability.SafeToRetry.
package safe

// New returns an error like errors.New, for an operation that had no effect and can be repeated.
func New(text string) error { return &plain{text} }

type plain struct{ text string }

func (e *plain) Error() string   { return e.text }
func (*plain) SafeToRetry() bool { return true }

// Unknown wraps err for an operation that may have had an effect, even if err declares the opposite.
func Unknown(err error) error { return &unknown{err} }

type unknown struct{ error }

func (e *unknown) Unwrap() error   { return e.error }
func (*unknown) SafeToRetry() bool { return false }
