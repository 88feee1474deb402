package link

import (
	"bytes"
	"errors"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Policy decides what follows the end of a connection or a failed attempt. It considers the end,
// the delays so far and the consecutive redirects. Decide must be called by one goroutine only.
type Policy struct {
	Retry            reliability.Retry
	StopOn           StopOn
	StopCodes        []byte // reason codes of CONNACK that stop the link; nil: reliability.StopCodes
	Servers          int    // length of the list; the link stops when each server has refused in turn
	FreshCredentials bool   // each attempt has new credentials, so a CONNACK that refuses them is not final
	StopOnTakeover   bool   // false: the client reconnects after a long delay
	IgnoreRedirects  bool

	redirects int // consecutive redirects
	refusals  int // consecutive refusals that require a stop
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
	Delay     time.Duration // before the next attempt
	Redirect  *url.URL      // the server of the next attempt; nil: the next one of the list
	Permanent bool          // Redirect replaces the server that sent it
}

// maxRedirects is the maximum number of consecutive redirects, because two servers may redirect to
// each other.
const maxRedirects = 5

// Decide returns what to do after end.
func (p *Policy) Decide(end End) Decision {
	action := p.action(end)
	p.refusals = p.refused(action, end)
	if action == reliability.ActionStop && p.refusals > 0 && p.refusals < p.Servers {
		action = reliability.ActionRetry // the next server may accept
	}
	if action != reliability.ActionStop && errors.Is(end.Err, ErrUnknownSession) {
		return Decision{Action: action} // immediately, with Clean Start 1
	}
	if tooLarge(end.Err) {
		p.Retry.Fault()
	}
	p.Retry.Down()
	if action != reliability.ActionRedirect || p.Retry.Attempts() == 0 { // 0: the last connection was stable
		p.redirects = 0
	}
	switch action {
	case reliability.ActionStop:
		return Decision{Action: action}
	case reliability.ActionRetryLater, reliability.ActionTakenOver:
		return Decision{Action: action, Delay: p.Retry.Later()}
	case reliability.ActionRedirect:
		if to, permanent := p.target(end); to != nil {
			p.redirects++
			return Decision{Action: action, Delay: p.Retry.Next(), Redirect: to, Permanent: permanent}
		}
		p.redirects = 0
	}
	return Decision{Action: reliability.ActionRetry, Delay: p.Retry.Next()}
}

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

// refused returns the number of consecutive refusals that require a stop.
func (p *Policy) refused(action reliability.Action, end End) int {
	var refused *ConnackError
	if action == reliability.ActionStop && errors.As(end.Err, &refused) {
		return p.refusals + 1
	}
	return 0
}

// target returns the server of a redirect, or nil if no redirect is followed.
func (p *Policy) target(end End) (to *url.URL, permanent bool) {
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
		if u.String() != end.Server.String() {
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
