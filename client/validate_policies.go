package client

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// validatePolicies looks at the fields whose types come from other packages. Those
// take what is out of range for their defaults, which is not what was written.
func (c Config) validatePolicies(bad func(field, format string, args ...any) error) error {
	for _, b := range []struct {
		field string
		value reliability.Backoff
	}{{"Backoff", c.Backoff}, {"HandlerBackoff", c.HandlerBackoff}} {
		lo, hi, factor := b.value.Min, b.value.Max, b.value.Factor
		switch {
		case lo < 0:
			return bad(b.field+".Min", "is %v; use 0 for the default or a positive duration", lo)
		case hi < 0:
			return bad(b.field+".Max", "is %v; use 0 for the default or a positive duration", hi)
		case hi > 0 && hi < lo:
			return bad(b.field+".Max", "is %v, less than Min, which is %v; raise it, or lower Min", hi, lo)
		case factor != 0 && !(factor >= 1) || math.IsInf(factor, 1): // NaN is neither
			return bad(b.field+".Factor", "is %v; use 0 for the default or a number from 1 on", factor)
		}
	}
	type amount struct {
		field string
		value int64
		print any
	}
	span := func(field string, d time.Duration) amount { return amount{field, int64(d), d} }
	count := func(field string, n int) amount { return amount{field, int64(n), n} }
	amounts := []amount{
		count("Breaker.FailureThreshold", c.Breaker.FailureThreshold), span("Breaker.RecoveryTimeout", c.Breaker.RecoveryTimeout),
		count("Breaker.SuccessesToClose", c.Breaker.SuccessesToClose), span("Breaker.SlowAck", c.Breaker.SlowAck),
	}
	if o := c.Ordering; o != nil {
		switch {
		case o.Start > ordering.FromOne:
			return bad("Ordering.Start", "is %d; use Adopt or FromOne", o.Start)
		case o.Late > ordering.DropLate:
			return bad("Ordering.Late", "is %d; use DeliverLate or DropLate", o.Late)
		}
		amounts = append(amounts, count("Ordering.MaxKeys", o.MaxKeys), count("Ordering.MaxHeldPerKey", o.MaxHeldPerKey),
			count("Ordering.MaxHeld", o.MaxHeld), count("Ordering.MaxRanges", o.MaxRanges), span("Ordering.GapTimeout", o.GapTimeout))
	}
	for _, a := range amounts {
		if a.value < 0 {
			return bad(a.field, "is %v; use 0 for the default or more than that", a.print)
		}
	}
	return nil
}
