package reliability

import (
	"context"
	"errors"
)

// Judgment is what an error means to a [Breaker].
type Judgment uint8

const (
	Succeeded Judgment = iota // counts as a success
	Failed                    // counts as a failure
	Ignored                   // does not count
)

// ReasonCoder is an error with an MQTT reason code.
type ReasonCoder interface {
	error
	ReasonCode() byte
}

// Judge is the default of BreakerOptions.Judge. A nil error is a success. An error
// with a reason code is judged by its class: a failure if [Class.Counts] is true,
// otherwise ignored. An error that wraps context.Canceled is ignored. All other
// errors are failures, such as a lost connection or a [*TimeoutError].
func Judge(err error) Judgment {
	if err == nil {
		return Succeeded
	}
	var coded ReasonCoder
	if errors.As(err, &coded) {
		switch class := Classify(coded.ReasonCode()); {
		case class == Success:
			return Succeeded
		case class.Counts():
			return Failed
		}
		return Ignored
	}
	if errors.Is(err, context.Canceled) {
		return Ignored
	}
	return Failed
}
