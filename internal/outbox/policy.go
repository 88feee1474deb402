package outbox

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/topic"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Rule says what becomes of messages that the server refuses.
type Rule struct {
	Filter   string // of topics; empty: all
	Codes    []byte // empty: all of 0x80 and above
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

// rules finds the rule for a refusal: the first that matches, or the default.
type rules []compiledRule

type compiledRule struct {
	Rule
	tree topic.Tree[bool]
}

func compile(list []Rule) (r rules) {
	for _, x := range list {
		c := compiledRule{Rule: x}
		if x.Filter != "" {
			c.tree.Set(x.Filter, true)
		}
		r = append(r, c)
	}
	return r
}

func (r rules) of(topic string, code byte) Rule {
	for i := range r {
		x := &r[i]
		if (len(x.Codes) == 0 || slices.Contains(x.Codes, code)) && (x.Filter == "" || len(x.tree.Match(topic, nil)) > 0) {
			return x.Rule
		}
	}
	return Rule{Action: DefaultAction(code)}
}

// LowersQoS reports whether a rule lowers the QoS of messages of this topic where the server does not
// take QoS 2.
func (o *Outbox) LowersQoS(topic string) bool {
	return len(o.rules) > 0 && o.rules.of(topic, wire.ReasonQoSNotSupported).Action == LowerQoS
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

// window bounds the messages in flight after the server has refused messages because of a quota. It
// halves with each such refusal, at most once for what was in flight together, and grows again with
// the acknowledgements.
type window struct {
	limit  atomic.Int64 // 0: none
	credit atomic.Int64 // acknowledgements since it has grown
	landed atomic.Int64 // until so many answers have come, refusals are of messages sent before
}

// answered notes an answer; acked: the message was accepted. most is where the limit ends.
func (w *window) answered(acked bool, most int) {
	limit := w.limit.Load()
	if limit == 0 {
		return
	}
	if w.landed.Load() > 0 {
		w.landed.Add(-1)
	}
	if !acked || w.credit.Add(1) < limit {
		return
	}
	w.credit.Store(0)
	if limit += max(1, limit/4); limit >= int64(most) {
		limit = 0
	}
	w.limit.Store(limit)
}

// refused notes that a quota was exceeded with so many messages in flight.
func (w *window) refused(inFlight int) {
	if w.landed.Load() > 0 {
		return
	}
	w.limit.Store(max(1, int64(inFlight+1)/2))
	w.credit.Store(0)
	w.landed.Store(int64(inFlight))
}
