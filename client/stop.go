package client

import (
	"slices"

	"github.com/mooring-mqtt/mooring/reliability"
)

// StopPolicy selects which refused connections stop the client. A server refuses a connection with
// a CONNACK that has a reason code of 0x80 or above. After such a stop, Err returns a
// *ConnectionError. After all other refusals, the client reconnects with backoff. A DISCONNECT
// stops the client only with TakeoverStop or StrictSession.
//
// With the zero value, the client stops only if no server has accepted it before and a server
// rejects the content of the client's CONNECT. The cause is then probably a wrong configuration. If
// there are several Servers, the client stops only after each of them has refused it in turn. After
// a server has accepted the client, no refusal stops it, because authentication may be unavailable
// for a while.
//
// The durable store remembers across restarts that the ClientID was accepted, but not the other
// settings. If the password is later changed to a wrong one, the client therefore keeps retrying.
// It reports the failures with ConnectFailed events and in the log. A store in memory remembers
// nothing across restarts. If a process with such a store restarts while the authentication backend
// is unavailable, its client stops, unless When is StopNever.
type StopPolicy struct {
	When StopWhen // when a refusal stops the client; default StopNew
	// Codes are the reason codes that stop the client, each 0x80 or above. Default:
	// reliability.StopCodes, which are 0x81, 0x82, 0x84 to 0x87, 0x8C, 0x90, 0x95 and 0x99 to 0x9B.
	Codes []byte
}

// StopWhen selects when a refusal with one of StopPolicy.Codes stops the client.
type StopWhen uint8

const (
	StopNew    StopWhen = iota // a refusal stops the client if no server has accepted it before
	StopAlways                 // a refusal stops the client even if a server has accepted it before
	StopNever                  // no refusal stops the client
)

// String returns the name in lower case.
func (w StopWhen) String() string { return nameOf(w, "stop", "new", "always", "never") }

func (v *validator) stop(p *StopPolicy) {
	const field = "Connection.StopOn."
	v.bad(p.When > StopNever, field+"When", "is %d; use StopNew, StopAlways or StopNever", p.When)
	for _, code := range p.Codes {
		v.bad(code < 0x80, field+"Codes", "has 0x%02X (%s), which is not a refusal; use codes of 0x80 or above", code, reliability.ReasonName(code))
	}
	v.bad(p.When == StopNever && p.Codes != nil, field+"Codes", "is set together with StopNever, which uses no codes; set only one of them")
}

// stopCodes returns the codes for link.Policy.
func (p *StopPolicy) stopCodes() []byte {
	if len(p.Codes) == 0 {
		return nil
	}
	return slices.Clone(p.Codes)
}
