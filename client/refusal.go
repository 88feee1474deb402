package client

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/reliability"
)

// RefusalRule selects what to do with messages that the server refuses, or over which it ends
// connections (see PublishingConfig.PoisonAttempts).
type RefusalRule struct {
	Filter string // topic filter of the messages; default: all topics
	// Codes are the reason codes of PUBACK and PUBREC to which the rule applies. Default: all of
	// 0x80 and above. Listed codes also apply to a DISCONNECT caused by a message. Code 0 applies
	// to a connection that ends over a message without a reason code.
	Codes  []byte
	Action RefusalAction // what happens to the message; default RetryLater
	// MaxAttempts limits the retries of a message: it ends at the MaxAttempts-th refusal. Default
	// 0: no limit, except Expiry and MaxAge.
	MaxAttempts int
	// MaxTime limits the time of the retries: a message ends at the first refusal that is MaxTime
	// or more after the first one. Default 0: no limit, except Expiry and MaxAge.
	MaxTime time.Duration
}

// RefusalAction selects what the client does with a refused message.
type RefusalAction uint8

const (
	RetryLater RefusalAction = iota // the message is deferred and resent
	GiveUp                          // the message ends as Refused, or as DeadLettered with StoreConfig.DeadLetters
	SetAside                        // the message ends as DeadLettered; requires StoreConfig.DeadLetters
	// LowerQoS sends a QoS 2 message at QoS 1 if the server's Maximum QoS is 1. The message may
	// then be delivered twice. It applies to code 0x9B only, and lets Publish accept QoS 2.
	LowerQoS
)

// String returns the action's name.
func (a RefusalAction) String() string {
	return nameOf(a, "action", "retry later", "give up", "set aside", "lower QoS")
}

// These values equal those of package deferral.
var _ = [1]struct{}{}[LowerQoS-RefusalAction(deferral.LowerQoS)]

// DeferredError reports messages that the server refuses for now. They stay pending and are resent,
// see PublishingConfig.Refusals. Delivery.Wait returns it for one message. Drain returns it in a
// DrainError if only such messages are left.
type DeferredError struct {
	Messages int
	Since    time.Time // since when the oldest is deferred; zero if unknown
	Code     byte      // the last reason code
	Err      error     // why the wait ended; nil if the refusals lasted too long
}

func (e *DeferredError) Error() string {
	s := fmt.Sprintf("client: %d messages deferred: the server refuses them for now with %s (0x%02X); they are resent until they expire", e.Messages, reliability.ReasonName(e.Code), e.Code)
	if e.Messages == 1 {
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
