package link

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// policyActions lists the actions for the specification's reason codes of CONNACK and DISCONNECT
// (tables 3-1 and 3-13). They apply to a policy with default settings and a client that was never
// accepted. For all other codes, including undefined codes and codes of other packets, the action
// is retry.
var policyActions = []struct {
	action              reliability.Action
	connack, disconnect []byte
}{
	{reliability.ActionRetryLater, []byte{0x89, 0x8A, 0x96, 0x97, 0x9F}, []byte{0x84, 0x85, 0x86, 0x89, 0x8A, 0x8C, 0x96, 0x97, 0x9F}},
	{reliability.ActionRedirect, []byte{0x9C, 0x9D}, []byte{0x9C, 0x9D}},
	{reliability.ActionTakenOver, []byte{0x8E}, []byte{0x8E}},
	{reliability.ActionStop, []byte{0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B}, nil},
}

func expectedAction(connack bool, code byte) reliability.Action {
	for _, row := range policyActions {
		codes := row.disconnect
		if connack {
			codes = row.connack
		}
		if strings.IndexByte(string(codes), code) >= 0 {
			return row.action
		}
	}
	return reliability.ActionRetry
}

// TestPolicy_ReasonCodes covers all reason codes of both packets, each with the settings that
// change its action.
func TestPolicy_ReasonCodes(t *testing.T) {
	server := &url.URL{Scheme: "mqtt", Host: "one:1883"}
	for i := range 256 {
		code := byte(i)
		for name, set := range map[string]func(p *Policy, connack bool, want reliability.Action) reliability.Action{
			"default": func(_ *Policy, _ bool, want reliability.Action) reliability.Action { return want },
			"fresh credentials": func(p *Policy, connack bool, want reliability.Action) reliability.Action {
				p.FreshCredentials = true
				if connack && (code == 0x86 || code == 0x87 || code == 0x8C) {
					return reliability.ActionRetry
				}
				return want
			},
			"stop on takeover": func(p *Policy, connack bool, want reliability.Action) reliability.Action {
				p.StopOnTakeover = true
				if !connack && code == 0x8E {
					return reliability.ActionStop
				}
				return want
			},
			"accepted before": func(p *Policy, connack bool, want reliability.Action) reliability.Action {
				p.Retry.Stable = acceptedBefore
				if connack && want == reliability.ActionStop {
					return reliability.ActionRetry
				}
				return want
			},
			"accepted before, stop always": func(p *Policy, _ bool, want reliability.Action) reliability.Action {
				p.Retry.Stable, p.StopOn = acceptedBefore, StopAlways
				return want
			},
			"stop never": func(p *Policy, connack bool, want reliability.Action) reliability.Action {
				p.StopOn = StopNever
				if connack && want == reliability.ActionStop {
					return reliability.ActionRetry
				}
				return want
			},
			"other codes": func(p *Policy, connack bool, want reliability.Action) reliability.Action {
				p.StopCodes = []byte{0x87, 0x97, 0xFF}
				if connack && (code == 0x87 || code == 0x97 || code == 0xFF) {
					return reliability.ActionStop
				}
				if connack && want == reliability.ActionStop {
					return reliability.ActionRetry
				}
				return want
			},
			"ignore redirects": func(p *Policy, _ bool, want reliability.Action) reliability.Action {
				p.IgnoreRedirects = true
				if want == reliability.ActionRedirect {
					return reliability.ActionRetry
				}
				return want
			},
		} {
			for _, connack := range []bool{true, false} {
				p := atServers(&Policy{Retry: reliability.Retry{Backoff: reliability.Backoff{Min: time.Second, Max: time.Minute, Rand: func() float64 { return 0 }}}}, "one")
				end := End{Server: server, Err: &DisconnectError{Reason: code, ServerReference: "else"}, Up: &Up{}}
				if connack {
					end = End{Server: server, Err: &ConnackError{Reason: code, ServerReference: "else"}}
				}
				want := Decision{Action: set(p, connack, expectedAction(connack, code)), Delay: time.Second}
				switch want.Action {
				case reliability.ActionStop:
					want.Delay = 0
				case reliability.ActionRetryLater, reliability.ActionTakenOver:
					want.Delay = 30 * time.Second
				case reliability.ActionRedirect:
					if connack {
						want.Delay = 0
					}
					want.Redirect, want.Permanent = &url.URL{Scheme: "mqtt", Host: "else:1883"}, code == 0x9D
				}
				end.Accepted, p.Retry.Stable = p.Retry.Stable == acceptedBefore, 0
				p.Next()
				if got := p.Decide(end); !sameDecision(got, want) {
					t.Errorf("0x%02X %s (CONNACK %v, %s): %+v, want %+v", code, reliability.ReasonName(code), connack, name, got, want)
				}
			}
		}
	}
}

const acceptedBefore = -1 // a value of Retry.Stable in the rows above

// atServers gives a policy the list of servers with these hosts.
func atServers(p *Policy, hosts ...string) *Policy {
	var list []*url.URL
	for _, host := range hosts {
		list = append(list, &url.URL{Scheme: "mqtt", Host: host + ":1883"})
	}
	p.route = newRoute(list)
	return p
}

// A client with several servers stops when each has refused in turn.
func TestPolicy_AsksEachServerBeforeItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused, broken := error(&ConnackError{Reason: 0x87}), io.EOF
		p := atServers(&Policy{Retry: reliability.Retry{Backoff: constant(time.Second)}}, "one", "two", "three")
		var trace []string
		for _, err := range []error{refused, refused, broken, refused, refused, &ConnackError{Reason: 0x88}, refused, refused, refused} {
			d := p.Decide(End{Server: p.Next(), Err: err})
			trace = append(trace, fmt.Sprint(d.Action))
			time.Sleep(d.Delay)
		}
		if got := strings.Join(trace, " "); got != "retry retry retry retry retry retry retry retry stop" {
			t.Error(got)
		}
		if d := p.Decide(End{Server: p.Next(), Err: &SessionMismatchError{}}); d.Action != reliability.ActionStop {
			t.Errorf("another end: %v", d.Action)
		}
	})
}

// A server that refuses twice, while another one is postponed, does not count as two servers.
func TestPolicy_DoesNotCountARefusalTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := atServers(&Policy{Retry: reliability.Retry{Backoff: constant(time.Second)}}, "strict", "busy")
		for range 20 {
			server, err := p.Next(), &ConnackError{Reason: 0x87}
			if server.Host == "busy:1883" {
				err.Reason = 0x97
			}
			d := p.Decide(End{Server: server, Err: err})
			if d.Action == reliability.ActionStop {
				t.Fatalf("stopped after %s", server.Host)
			}
			time.Sleep(d.Delay)
		}
	})
}

func sameDecision(a, b Decision) bool {
	return a.Action == b.Action && a.Delay == b.Delay && a.Permanent == b.Permanent && fmt.Sprint(a.Redirect) == fmt.Sprint(b.Redirect)
}

// TestPolicy_OtherEnds covers ends without a reason code from the server.
func TestPolicy_OtherEnds(t *testing.T) {
	left := &Up{}
	left.final.Store(&Disconnect{})
	for name, tt := range map[string]struct {
		end    End
		action reliability.Action
		delay  time.Duration
	}{
		"the connection breaks":         {End{Err: io.EOF, Up: &Up{}}, reliability.ActionRetry, time.Second},
		"the attempt fails":             {End{Err: io.EOF}, reliability.ActionRetry, time.Second},
		"violation by the server":       {End{Err: &wire.Error{Code: 0x82}, Up: &Up{}}, reliability.ActionRetry, time.Second},
		"authentication fails":          {End{Err: &CloseError{Reason: 0x80, Err: &AuthError{Err: io.EOF}}}, reliability.ActionRetry, time.Second},
		"unknown session":               {End{Err: ErrUnknownSession}, reliability.ActionRetry, 0},
		"strict session, unknown":       {End{Err: &CloseError{Err: &SessionMismatchError{Present: true}}}, reliability.ActionStop, 0},
		"strict session, lost":          {End{Err: &CloseError{Err: &SessionMismatchError{}}}, reliability.ActionStop, 0},
		"final DISCONNECT, then an end": {End{Err: io.EOF, Up: left}, reliability.ActionStop, 0},
		"irregular refusal":             {End{Err: irregular(&ConnackError{Reason: 0x87}, &wire.Error{Code: 0x82})}, reliability.ActionStop, 0},
	} {
		p := atServers(&Policy{Retry: reliability.Retry{Backoff: constant(time.Second)}}, "one")
		tt.end.Server = p.Next()
		if got := p.Decide(tt.end); got.Action != tt.action || got.Delay != tt.delay || got.Redirect != nil {
			t.Errorf("%s: %+v, want %v after %v", name, got, tt.action, tt.delay)
		}
	}
}

// ends makes a policy decide about refusals that redirect to another server.
type ends struct {
	p     *Policy
	trace []string
}

func (e *ends) refer(from, reference string, reason byte, redirected bool) Decision {
	d := e.p.Decide(End{Server: &url.URL{Scheme: "mqtt", Host: from}, Err: &ConnackError{Reason: reason, ServerReference: ServerReference(reference)}, Redirected: redirected})
	e.trace = append(e.trace, fmt.Sprint(d.Action))
	return d
}

func TestPolicy_ServerReferences(t *testing.T) {
	for name, tt := range map[string]struct {
		reason     byte
		reference  string
		redirected bool
		want       string // the target, with "permanent"; empty: no redirect
	}{
		"temporary":                     {0x9C, "else:1999", false, "mqtt://else:1999"},
		"permanent":                     {0x9D, "else", false, "mqtt://else:1883 permanent"},
		"not the server itself":         {0x9C, "one:1883 [::1]:7", false, "mqtt://[::1]:7"},
		"none":                          {0x9C, "", false, ""},
		"only itself":                   {0x9D, "one:1883", false, ""},
		"invalid":                       {0x9D, "?? mqtts:// a@b", false, ""},
		"permanent, by one not in list": {0x9D, "else", true, "mqtt://else:1883"},
	} {
		e := ends{p: atServers(&Policy{}, "one")}
		e.p.Next()
		d := e.refer("one:1883", tt.reference, tt.reason, tt.redirected)
		got := ""
		if d.Redirect != nil {
			got = d.Redirect.String()
		}
		if d.Permanent {
			got += " permanent"
		}
		if got != tt.want || (d.Action == reliability.ActionRedirect) != (tt.want != "") || (d.Delay == 0) != (tt.want != "") {
			t.Errorf("%s: %+v, want %q", name, d, tt.want)
		}
	}
}

// A chain of redirects is followed five times. Then the list and the count start again. Any other
// end or a stable connection also resets the count.
func TestPolicy_LimitsConsecutiveRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := ends{p: atServers(&Policy{Retry: reliability.Retry{Backoff: constant(time.Second)}}, "one")}
		n := 0
		chain := func(links int, want string) {
			t.Helper()
			e.trace = nil
			for range links {
				n++
				d := e.refer(e.p.Next().Host, fmt.Sprint("target", n), 0x9C, true)
				time.Sleep(d.Delay)
			}
			if got := strings.Join(e.trace, " "); got != want {
				t.Errorf("actions: %s, want %s", got, want)
			}
		}
		const once = "redirect redirect redirect redirect redirect retry"
		chain(7, once+" redirect")
		e.p.Decide(End{Server: e.p.Next(), Err: errors.New("refused")})
		time.Sleep(time.Second)
		chain(6, once)
		chain(4, "redirect redirect redirect redirect")
		server := e.p.Next()
		d := e.p.Decide(End{Server: server, Err: &DisconnectError{Reason: 0x9C, ServerReference: "short"}, Up: &Up{}, Took: 10*time.Second - 1})
		if d.Action != reliability.ActionRedirect {
			t.Errorf("a fifth redirect: %+v", d)
		}
		time.Sleep(d.Delay)
		server = e.p.Next()
		d = e.p.Decide(End{Server: server, Err: &DisconnectError{Reason: 0x9C, ServerReference: "stable"}, Up: &Up{}, Took: 10 * time.Second})
		if d.Action != reliability.ActionRedirect {
			t.Errorf("after a stable connection: %+v", d)
		}
		time.Sleep(d.Delay)
		chain(5, "redirect redirect redirect redirect retry")
	})
}

// A packet that this client does not accept is redelivered on each connection. From the second time
// on, the delays grow, however long the connections last.
func TestPolicy_DelaysGrowWhileAPacketIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := atServers(&Policy{Retry: reliability.Retry{Backoff: reliability.Backoff{Min: time.Second, Rand: func() float64 { return 1 }}}}, "one")
		var delays []time.Duration
		for range 4 {
			p.Retry.Up()
			time.Sleep(time.Hour)
			delays = append(delays, p.Decide(End{Server: p.Next(), Err: &wire.Error{Code: wire.ReasonPacketTooLarge}, Up: &Up{}}).Delay)
		}
		if fmt.Sprint(delays) != "[2s 4s 8s 16s]" {
			t.Errorf("delays %v", delays)
		}
	})
}
