// Package safe makes errors whose operation can be repeated without a duplicate;
// see reliability.SafeToRetry.
package safe

// New returns an error for errors.Is, like errors.New. Its operation had no effect.
func New(text string) error { return &plain{text} }

type plain struct{ text string }

func (e *plain) Error() string   { return e.text }
func (*plain) SafeToRetry() bool { return true }

// Unknown returns err for an operation that may have had an effect, whatever err says by itself.
func Unknown(err error) error { return &unknown{err} }

type unknown struct{ error }

func (e *unknown) Unwrap() error   { return e.error }
func (*unknown) SafeToRetry() bool { return false }
