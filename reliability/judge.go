package reliability

import (
	"context"
	"errors"
)

// Outcome is what an error means to a [Breaker].
type Outcome uint8

const (
	Succeeded Outcome = iota // ends a row of failures
	Failed                   // counts against the broker
	Ignored                  // says nothing about the broker
)

// ReasonCoder is an error that carries an MQTT reason code.
type ReasonCoder interface {
	error
	ReasonCode() byte
}

// Judge is the default for BreakerOptions.Judge. nil is a success. An error that
// carries a reason code counts if its class does ([Class.Counts]) and is ignored
// otherwise. context.Canceled is the caller's wish and ignored. Everything else,
// such as a lost connection or a [*TimeoutError], counts.
func Judge(err error) Outcome {
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
		default:
			return Ignored
		}
	}
	if errors.Is(err, context.Canceled) {
		return Ignored
	}
	return Failed
}
