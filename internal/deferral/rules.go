package deferral

import (
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Rule says what becomes of messages that the server refuses.
type Rule struct {
	Filter   string // of topics; empty: all
	Codes    []byte // empty: all of 0x80 and above, in answers to messages
	Action   Action
	Attempts int           // Retry: the message ends at this refusal; 0: no limit
	For      time.Duration // Retry: the message ends at a refusal this long after the first; 0: no limit
}

// Action is what follows a refusal.
type Action uint8

const (
	Retry      Action = iota // the message is deferred
	GiveUp                   // it ends as Refused
	DeadLetter               // it ends as DeadLettered
	LowerQoS                 // a QoS 2 message is sent at QoS 1 to a server whose Maximum QoS is 1
)

// Rules finds the rule for a refusal: the first that matches, or the default.
type Rules []compiledRule

type compiledRule struct {
	Rule
	tree topic.Tree[bool]
}

// Compile returns the rules of a list.
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

// OfEnd returns the rule for a message over which connections end with this code; 0: without one. Only a
// rule that names the code applies; false: there is none.
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

// Final reports whether a message ends that was refused so often, since this time.
func (r *Rule) Final(attempts int, since, now time.Time) bool {
	return r.Attempts > 0 && attempts >= r.Attempts || r.For > 0 && now.Sub(since) >= r.For
}

// LowersQoS reports whether a rule lowers the QoS of messages of this topic where the server does not
// take QoS 2.
func (r Rules) LowersQoS(topic string) bool {
	return len(r) > 0 && r.Of(topic, wire.ReasonQoSNotSupported).Action == LowerQoS
}

// DefaultAction returns what follows a refusal for which there is no rule. A code that names the
// message itself ends it: it cannot succeed later. All others may pass.
func DefaultAction(code byte) Action {
	switch reliability.Classify(code) {
	case reliability.Invalid, reliability.Protocol:
		return GiveUp
	}
	return Retry
}
