package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// verdict is the evaluation of an outcome.
type verdict struct {
	outcome
	wrong []string // differences from MQTT 5 that are not known departures
	known []string // known departures that happened
	fixed []string // known departures that did not happen
}

// failed reports whether the verdict causes exit status 1.
func (v verdict) failed(b *broker) bool { return len(v.wrong) > 0 && !b.foreign }

// judge compares an outcome with MQTT 5 and with the known departures of the broker.
func judge(c *scenario, b *broker, o outcome) verdict {
	v := verdict{outcome: o}
	if o.err != nil {
		v.wrong = append(v.wrong, o.err.Error())
		return v
	}
	var noWill, others departure
	if b.known {
		for _, k := range c.known {
			if k.noWill {
				noWill = k
			}
			if k.facts != nil {
				others = k
			}
		}
	}
	if !c.untimed {
		switch problem := timing(c.wills, o.wills, b.tick, b.late); {
		case noWill.noWill && len(o.wills) == 0:
			v.known = append(v.known, noWill.name)
		case problem == "":
			if noWill.noWill {
				v.fixed = append(v.fixed, noWill.name)
			}
		default:
			if k := lateness(c, b, o.wills); k != "" {
				v.known = append(v.known, k)
			} else {
				v.wrong = append(v.wrong, problem)
			}
		}
	}
	switch {
	case others.facts != nil && slices.Equal(o.facts, others.facts):
		v.known = append(v.known, others.name)
	case !slices.Equal(o.facts, c.facts):
		v.wrong = append(v.wrong, fmt.Sprintf("saw %q, expected %q", o.facts, c.facts))
	case others.facts != nil:
		v.fixed = append(v.fixed, others.name)
	}
	return v
}

// timing describes what is wrong with the times of the wills, or returns "". A will may be early by
// tick, and late by late. The times start immediately before the connection ends.
func timing(want, got []time.Duration, tick, late time.Duration) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%s, expected %s", came(got), expected(want))
	}
	for i, g := range got {
		switch {
		case g < want[i]-tick:
			return fmt.Sprintf("%.2f s early", (want[i] - g).Seconds())
		case g > want[i]+late:
			return fmt.Sprintf("%.2f s late", (g - want[i]).Seconds())
		}
	}
	return ""
}

// lateness returns the name of the known departure that allows the lateness of the wills, or "".
func lateness(c *scenario, b *broker, got []time.Duration) string {
	if b.known {
		for _, k := range c.known {
			if k.late > 0 && timing(c.wills, got, b.tick, k.late) == "" {
				return k.name
			}
		}
	}
	return ""
}

// expectation returns the expected result as text.
func (c *scenario) expectation() string {
	if c.untimed {
		return describe("", c.facts)
	}
	return describe(expected(c.wills), c.facts)
}

func (c *scenario) seen(o outcome) string {
	switch {
	case o.err != nil:
		return o.err.Error()
	case c.untimed:
		return describe("", o.facts)
	}
	return describe(came(o.wills), o.facts)
}

func describe(wills string, facts []string) string {
	all := slices.Clone(facts)
	if wills != "" {
		all = append([]string{wills}, facts...)
	}
	return strings.Join(all, "; ")
}

func expected(wills []time.Duration) string {
	var all []string
	for _, w := range wills {
		if w == 0 {
			all = append(all, "Will Message at once")
		} else {
			all = append(all, fmt.Sprintf("Will Message after %g s", w.Seconds()))
		}
	}
	if len(all) == 0 {
		return "no Will Message"
	}
	return strings.Join(all, ", ")
}

func came(wills []time.Duration) string {
	var all []string
	for _, w := range wills {
		all = append(all, fmt.Sprintf("Will Message after %.1f s", w.Seconds()))
	}
	if len(all) == 0 {
		return "no Will Message"
	}
	return strings.Join(all, ", ")
}
