package link

import (
	"bytes"
	"cmp"
	"errors"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Policy decides what follows the end of a connection or a failed attempt: whether the link stops,
// which server is tried next, and when. The Backoff applies to rounds of attempts, see route. All
// methods must be called by one goroutine only.
type Policy struct {
	Retry            reliability.Retry
	StopOn           StopOn
	StopCodes        []byte // reason codes of CONNACK that stop the link; nil: reliability.StopCodes
	FreshCredentials bool   // each attempt has new credentials, so a CONNACK that refuses them is not final
	StopOnTakeover   bool   // false: the client reconnects after a long delay
	IgnoreRedirects  bool

	route     route
	redirects int             // consecutive redirects
	refusals  map[string]bool // by URL; servers that consecutively refused in a way that requires a stop
}

// StopOn selects when a CONNACK with one of the stop codes stops the link.
type StopOn uint8

const (
	StopNew    StopOn = iota // unless a server has accepted the client before
	StopAlways               // even if a server has accepted the client before
	StopNever
)

// Decision describes what follows an End.
type Decision struct {
	Action    reliability.Action
	Delay     time.Duration // before the next attempt, which may be at another server
	Redirect  *url.URL      // the server of the next attempt; nil: the route selects it
	Permanent bool          // Redirect replaces the server that sent it
}

// maxRedirects is the maximum number of consecutive redirects, because each server may redirect to
// another one.
const maxRedirects = 5

// Next returns the server of the next attempt. It must be called when the attempt begins.
func (p *Policy) Next() *url.URL { return p.route.next(time.Now()) }

// RetryNow begins a round now, with all servers.
func (p *Policy) RetryNow() { p.route.beginNow(time.Now()) }

// Decide returns what to do after end.
func (p *Policy) Decide(end End) Decision {
	action := p.action(end)
	if p.countRefusals(action, end); action == reliability.ActionStop && len(p.refusals) > 0 && len(p.refusals) < p.route.servers() {
		action = reliability.ActionRetry // the next server may accept
	}
	switch {
	case action == reliability.ActionStop:
		return Decision{Action: action}
	case errors.Is(end.Err, ErrUnknownSession): // resumed, or discarded with Clean Start 1
		p.route.again = end.Server
		return Decision{Action: action}
	case tooLarge(end.Err):
		p.Retry.Fault()
	}
	p.Retry.Down()
	now, d := time.Now(), Decision{Action: action}
	stable := end.Up != nil && end.Took >= p.stableAfter()
	if end.Up != nil {
		p.route.ended(end.Server, stable)
	}
	if stable {
		p.route.beginRound(now, 0)
	}
	if action != reliability.ActionRedirect || stable {
		p.redirects = 0
	}
	switch action {
	case reliability.ActionRetryLater:
		p.route.later[end.Server.String()] = now.Add(p.Retry.Backoff.Later())
	case reliability.ActionTakenOver: // by a client of any server
		p.route.rest(now, p.Retry.Later())
	case reliability.ActionRedirect:
		if d.Redirect, d.Permanent = p.target(end, now); d.Redirect == nil {
			p.redirects, d.Action = 0, reliability.ActionRetry
			break
		}
		p.redirects++
		p.route.redirect(d.Redirect, d.Permanent)
	}
	switch _, open := p.route.wait(now); {
	case action == reliability.ActionTakenOver:
	case stable, !open:
		p.route.beginRound(now, p.Retry.Next())
	case end.Up != nil:
		// All clients of a server may lose their connections at the same moment. Therefore the other
		// servers are not tried at once.
		p.route.pause(now, p.Retry.Backoff.Delay(0))
	}
	d.Delay, _ = p.route.wait(now)
	return d
}

// stableAfter returns how long a connection must be up so that its server is tried first again. It
// is the time after which Retry resets its count.
func (p *Policy) stableAfter() time.Duration { return cmp.Or(max(0, p.Retry.Stable), 10*time.Second) }

// action returns the action for an end. Only this function decides whether a refusal is final.
func (p *Policy) action(end End) reliability.Action {
	var refused *ConnackError
	var ended *DisconnectError
	var mismatch *SessionMismatchError
	switch {
	case end.Up != nil && end.Up.Disconnecting(), errors.As(end.Err, &mismatch):
		return reliability.ActionStop // in the first case the connection ended before the context of Run
	case errors.As(end.Err, &refused):
		if p.FreshCredentials && aboutCredentials(refused.Reason) {
			return reliability.ActionRetry
		}
		return p.onConnack(refused.Reason, end.Accepted)
	case p.StopOnTakeover && end.TakenOver():
		return reliability.ActionStop
	case errors.As(end.Err, &ended):
		return reliability.OnDisconnect(ended.Reason)
	}
	return reliability.ActionRetry
}

// onConnack returns the action for a refusal. accepted reports whether a server has accepted the
// client before.
func (p *Policy) onConnack(reason byte, accepted bool) reliability.Action {
	codes := p.StopCodes
	if codes == nil {
		codes = reliability.StopCodes()
	}
	stops := p.StopOn == StopAlways || p.StopOn == StopNew && !accepted
	if stops && bytes.IndexByte(codes, reason) >= 0 {
		return reliability.ActionStop
	}
	return reliability.OnConnack(reason, true)
}

// countRefusals counts the servers that have refused consecutively in a way that requires a stop.
func (p *Policy) countRefusals(action reliability.Action, end End) {
	var refused *ConnackError
	if action != reliability.ActionStop || !errors.As(end.Err, &refused) {
		p.refusals = nil
		return
	}
	if p.refusals == nil {
		p.refusals = map[string]bool{}
	}
	p.refusals[end.Server.String()] = true
}

// target returns the server of a redirect, or nil if no redirect is followed. A server that was
// tried in this round, or that asked for a later retry, is no target.
func (p *Policy) target(end End, now time.Time) (to *url.URL, permanent bool) {
	if p.IgnoreRedirects || p.redirects >= maxRedirects {
		return nil, false
	}
	var refused *ConnackError
	ended := &DisconnectError{}
	if errors.As(end.Err, &refused) {
		ended = (*DisconnectError)(refused)
	} else {
		errors.As(end.Err, &ended)
	}
	for _, u := range References(string(ended.ServerReference), end.Server) {
		if u.String() != end.Server.String() && p.route.open(u) && !p.route.due(u).After(now) {
			return u, ended.Reason == wire.ReasonServerMoved && !end.Redirected
		}
	}
	return nil, false
}

// aboutCredentials reports whether other credentials could change the refusal.
func aboutCredentials(code byte) bool {
	return code == wire.ReasonBadUserNameOrPassword || code == wire.ReasonNotAuthorized || code == wire.ReasonBadAuthenticationMethod
}

// tooLarge reports whether this client ended the connection because of a packet that exceeds its
// limit. The server sends such a packet again on the next connection.
func tooLarge(err error) bool {
	var violation *wire.Error
	return errors.As(err, &violation) && violation.Code == wire.ReasonPacketTooLarge
}
