package client

import (
	"slices"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// refusalLints are the rules about Publishing.Refusals.
var refusalLints = []lintRule{
	{"refusals-give-up", Loses, fields{"Publishing.Refusals"},
		"a rule gives up a message at the first refusal with a temporary code, such as 0x97 (quota exceeded), so a short overload of the server loses messages",
		"list only codes that concern the message or the topic, or use the action RetryLater with MaxTime",
		func(v *lintView) bool {
			return slices.ContainsFunc(v.Publishing.Refusals, func(r RefusalRule) bool {
				return (r.Action == GiveUp || r.Action == SetAside) && mayPass(r.Codes)
			})
		}},
	{"refusals-unreached", Misleads, fields{"Publishing.Refusals"},
		"a rule for all topics and codes precedes other rules. The first matching rule applies, so the later rules have no effect",
		"put the rule for all topics and codes last",
		func(v *lintView) bool {
			i := slices.IndexFunc(v.Publishing.Refusals, func(r RefusalRule) bool {
				return (r.Filter == "" || r.Filter == "#") && len(r.Codes) == 0 && r.Action != LowerQoS
			})
			return i >= 0 && i < len(v.Publishing.Refusals)-1
		}},
}

// mayPass reports whether one of the codes describes a temporary state of the server. An empty list
// means all codes. 0x87 may be temporary too, but it concerns the topic.
func mayPass(codes []byte) bool {
	return len(codes) == 0 || slices.ContainsFunc(codes, func(code byte) bool {
		return code != wire.ReasonNotAuthorized && deferral.DefaultAction(code) == deferral.Retry
	})
}
