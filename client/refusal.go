package client

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/reliability"
)

// RefusalRule is a rule for messages that the server refuses, or over which it ends connections (see
// PublishingConfig.PoisonAttempts).
type RefusalRule struct {
	Filter string // topic filter of the messages; empty: all topics
	// Codes are reason codes of PUBACK and PUBREC; empty: all of 0x80 and above. Named codes also apply
	// to a DISCONNECT over a message, and 0 to a connection that ends over a message without a code.
	Codes  []byte
	Action RefusalAction
	// MaxAttempts and MaxTime end a message that is retried: at this refusal, or at the first one
	// that comes this long after the first. Default 0: no limit; Expiry and MaxAge apply.
	MaxAttempts int
	MaxTime     time.Duration
}

// RefusalAction is what the client does with a message that the server has refused.
type RefusalAction uint8

const (
	RetryLater RefusalAction = iota // the message is deferred and sent again
	GiveUp                          // it ends as Refused, or as DeadLettered with StoreConfig.DeadLetters
	SetAside                        // it ends as DeadLettered; needs StoreConfig.DeadLetters
	// LowerQoS sends a QoS 2 message at QoS 1 if the server's Maximum QoS is 1. It applies to code
	// 0x9B only. Publish then accepts QoS 2, and a message may be delivered twice.
	LowerQoS
)

// String returns the action's name.
func (a RefusalAction) String() string {
	return nameOf(a, "action", "retry later", "give up", "set aside", "lower QoS")
}

// The actions are those of package deferral.
var _ = [1]struct{}{}[LowerQoS-RefusalAction(deferral.LowerQoS)]

// DeferredError reports messages that the server refuses for now. They stay pending and are sent
// again, see PublishingConfig.Refusals. Drain returns it, in a DrainError, when no other messages are
// left. Delivery.Wait returns it for one message.
type DeferredError struct {
	Messages int
	Since    time.Time // of the oldest; zero: unknown
	Code     byte      // the last reason code
	Err      error     // why the wait ended; nil: it waited long enough for the refusal to pass
}

func (e *DeferredError) Error() string {
	s := fmt.Sprintf("client: the server refuses %d messages for now, with %s (0x%02X); they are sent again until they expire", e.Messages, reliability.ReasonName(e.Code), e.Code)
	if e.Messages == 1 {
		s = fmt.Sprintf("client: the server refuses the message for now, with %s (0x%02X); it is sent again until it expires", reliability.ReasonName(e.Code), e.Code)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DeferredError) Unwrap() error    { return e.Err }
func (e *DeferredError) ReasonCode() byte { return e.Code }

// SafeToRetry returns false: the client sends the message again itself.
func (*DeferredError) SafeToRetry() bool { return false }
