package deferral

import (
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Rule defines what happens to messages that the server refuses.
type Rule struct {
	Filter   string // of topics; empty: all topics
	Codes    []byte // empty: all codes from 0x80, in answers to messages
	Action   Action
	Attempts int           // for Retry: the number of the refusal that ends the message; 0: no limit
	For      time.Duration // for Retry: a refusal this long after the first one ends the message; 0: no limit
}

// Action defines the reaction to a refusal.
type Action uint8

const (
	Retry      Action = iota // the message is deferred
	GiveUp                   // it ends as Refused
	DeadLetter               // it ends as DeadLettered
	LowerQoS                 // a QoS 2 message is sent at QoS 1 if the server's Maximum QoS is 1
)

// Rules finds the rule for a refusal: the first matching one, or the default.
type Rules []compiledRule

type compiledRule struct {
	Rule
	tree topic.Tree[bool]
}

// Compile returns the compiled rules of a list.
func Compile(list []Rule) (r Rules) {
	for _, x := range list {
		c := compiledRule{Rule: x}
		if x.Filter != "" {
			c.tree.Set(x.Filter, true)
		}
		r = append(r, c)
	}
	return r
}

// Of returns the rule for a refusal.
func (r Rules) Of(topic string, code byte) Rule {
	for i := range r {
		if x := &r[i]; (len(x.Codes) == 0 || slices.Contains(x.Codes, code)) && x.matches(topic) {
			return x.Rule
		}
	}
	return Rule{Action: DefaultAction(code)}
}

// OfEnd returns the rule for a message that caused connections to end with this code; code 0 means
// without one. Only a rule that lists the code applies. The result is false if there is none.
func (r Rules) OfEnd(topic string, code byte) (Rule, bool) {
	for i := range r {
		if x := &r[i]; slices.Contains(x.Codes, code) && x.matches(topic) {
			return x.Rule, true
		}
	}
	return Rule{}, false
}

func (x *compiledRule) matches(topic string) bool {
	return x.Filter == "" || len(x.tree.Match(topic, nil)) > 0
}

// Final reports whether a message ends after this number of refusals. since is the time of the
// first refusal.
func (r *Rule) Final(attempts int, since, now time.Time) bool {
	return r.Attempts > 0 && attempts >= r.Attempts || r.For > 0 && now.Sub(since) >= r.For
}

// LowersQoS reports whether a rule lowers the QoS of messages of this topic if the server does not
// support QoS 2.
func (r Rules) LowersQoS(topic string) bool {
	return len(r) > 0 && r.Of(topic, wire.ReasonQoSNotSupported).Action == LowerQoS
}

// DefaultAction returns the action for a refusal without a rule. A reason code about the message
// itself ends the message, because it cannot succeed later. All other codes are temporary.
func DefaultAction(code byte) Action {
	switch reliability.Classify(code) {
	case reliability.Invalid, reliability.Protocol:
		return GiveUp
	}
	return Retry
}
