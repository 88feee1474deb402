package client

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/reliability"
)

// RefusalRule selects what to do with messages that the server refuses. The rule also applies to
// messages that make the server end connections, see PublishingConfig.PoisonAttempts.
type RefusalRule struct {
	Filter string // topic filter of the messages; default: all topics
	// Codes are the reason codes of PUBACK and PUBREC to which the rule applies. Default: all codes
	// of 0x80 and above. Listed codes also apply to a DISCONNECT caused by a message. Code 0 stands
	// for a connection that a message ended and for which the server gave no reason code.
	Codes  []byte
	Action RefusalAction // what happens to the message; default RetryLater
	// MaxAttempts is the number of refusals after which the client gives a message up. Default 0:
	// no limit, except Expiry and MaxAge.
	MaxAttempts int
	// MaxTime limits the time of the retries. The client gives a message up when the server refuses
	// it MaxTime or more after the first refusal. Default 0: no limit, except Expiry and MaxAge.
	MaxTime time.Duration
}

// RefusalAction selects what the client does with a refused message.
type RefusalAction uint8

const (
	RetryLater RefusalAction = iota // the client defers the message and resends it later
	GiveUp                          // the outcome is Refused, or DeadLettered if StoreConfig.DeadLetters is set
	SetAside                        // the outcome is DeadLettered; requires StoreConfig.DeadLetters
	// LowerQoS sends a QoS 2 message at QoS 1 if the server's Maximum QoS is 1. The message may
	// then be delivered twice. LowerQoS applies only to code 0x9B. With it, Publish accepts a QoS 2
	// message for such a server.
	LowerQoS
)

// String returns the action's name.
func (a RefusalAction) String() string {
	return nameOf(a, "action", "retry later", "give up", "set aside", "lower QoS")
}

// These values equal those of package deferral.
var _ = [1]struct{}{}[LowerQoS-RefusalAction(deferral.LowerQoS)]

// DeferredError reports messages that the server refuses for now. The messages stay pending, and
// the client resends them, see PublishingConfig.Refusals. Delivery.Wait returns a DeferredError
// about its message. Drain returns a DrainError that contains a DeferredError if only such messages
// are left.
type DeferredError struct {
	Messages int
	Since    time.Time // when the first of the messages was deferred; zero if unknown
	// Code is the last reason code. If connections ended because of the message, it is the code of
	// DISCONNECT: 0 if the server sent none, and 0x80 if the server's answer was invalid.
	Code byte
	Err  error // why the call stopped waiting; nil if the refusals lasted too long

	alone bool // the message ended connections
}

func (e *DeferredError) Error() string {
	s := fmt.Sprintf("client: %d messages deferred: the server refuses them for now with %s (0x%02X); they are resent until they expire", e.Messages, reliability.ReasonName(e.Code), e.Code)
	switch {
	case e.alone:
		s = fmt.Sprintf("client: message deferred: connections ended because of it, the last one with %s; it is resent alone until it expires", endedWith(e.Code))
	case e.Messages == 1:
		s = fmt.Sprintf("client: message deferred: the server refuses it for now with %s (0x%02X); it is resent until it expires", reliability.ReasonName(e.Code), e.Code)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DeferredError) Unwrap() error    { return e.Err }
func (e *DeferredError) ReasonCode() byte { return e.Code }

// SafeToRetry returns false, because the client itself resends the message.
func (*DeferredError) SafeToRetry() bool { return false }
