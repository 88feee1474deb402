package client

import (
	"math"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/reliability"
)

// validatePolicies looks at the fields whose types come from other packages. Those
// take what is out of range for their defaults, which is not what was written.
func (c Config) validatePolicies(bad func(field, format string, args ...any) error) error {
	for _, b := range []struct {
		field string
		value reliability.Backoff
	}{{"Connection.Backoff", c.Connection.Backoff}, {"Receiving.HandlerBackoff", c.Receiving.HandlerBackoff}} {
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
		count("Publishing.Breaker.FailureThreshold", c.Publishing.Breaker.FailureThreshold), span("Publishing.Breaker.RecoveryTimeout", c.Publishing.Breaker.RecoveryTimeout),
		count("Publishing.Breaker.SuccessesToClose", c.Publishing.Breaker.SuccessesToClose), span("Publishing.Breaker.SlowAck", c.Publishing.Breaker.SlowAck),
	}
	if o := c.Receiving.Ordering; o != nil {
		switch {
		case o.Start > ordering.FromOne:
			return bad("Receiving.Ordering.Start", "is %d; use Adopt or FromOne", o.Start)
		case o.Late > ordering.DropLate:
			return bad("Receiving.Ordering.Late", "is %d; use DeliverLate or DropLate", o.Late)
		}
		amounts = append(amounts, count("Receiving.Ordering.MaxKeys", o.MaxKeys), count("Receiving.Ordering.MaxHeldPerKey", o.MaxHeldPerKey),
			count("Receiving.Ordering.MaxHeld", o.MaxHeld), count("Receiving.Ordering.MaxRanges", o.MaxRanges), span("Receiving.Ordering.GapTimeout", o.GapTimeout))
	}
	for _, a := range amounts {
		if a.value < 0 {
			return bad(a.field, "is %v; use 0 for the default or more than that", a.print)
		}
	}
	return nil
}

func (c Config) validateTransport(bad func(field, format string, args ...any) error) error {
	if _, err := link.ParseProxy(c.Connection.Proxy); err != nil {
		return bad("Connection.Proxy", "%v", err)
	}
	secure, network := false, false
	for _, s := range c.Servers {
		if u, err := link.ParseServer(s); err == nil {
			secure = secure || u.Scheme == "mqtts" || u.Scheme == "wss"
			network = network || u.Scheme != "unix"
		}
	}
	const alone = "is set together with Dial, which does without it; set one of both"
	f := c.Connection.TLSFiles
	switch {
	case c.Connection.Dial != nil && c.Connection.Proxy != "":
		return bad("Connection.Proxy", alone)
	case c.Connection.Dial != nil && c.TLS != nil:
		return bad("TLS", alone)
	case c.Connection.Dial != nil && f != nil:
		return bad("Connection.TLSFiles", alone)
	case c.TLS != nil && f != nil:
		return bad("Connection.TLSFiles", "is set together with TLS; set one of both")
	case f != nil && (f.Cert == "") != (f.Key == ""):
		return bad("Connection.TLSFiles", "has a Cert or a Key, and needs both or none")
	case f != nil && !secure:
		return bad("Connection.TLSFiles", "is set, but no server in Servers uses TLS; write mqtts:// or wss://")
	case c.Connection.Proxy != "" && c.Connection.Proxy != ProxyFromEnvironment && !network:
		return bad("Connection.Proxy", "is set, but Servers are Unix sockets, which no proxy leads to; leave it empty")
	case c.Connection.Credentials != nil && (c.Connection.Username != "" || c.Connection.Password != nil):
		return bad("Connection.Credentials", "is set together with Username or Password; let it return them")
	}
	return nil
}
