package client

import (
	"slices"

	"github.com/mooring-mqtt/mooring/reliability"
)

// StopPolicy selects which refusals of a connection (CONNACK with a reason code from 0x80 on) end
// the client; Err then returns a *ConnectionError. After all others the client connects again, with
// backoff. A DISCONNECT never ends the client, except as TakeoverPolicy and StrictSession select.
//
// The zero value stops a client that was never accepted and whose CONNECT is rejected for what is in
// it, which is probably a wrong configuration. Where several Servers are set, each has to refuse in
// turn. Once a server has accepted the client, no refusal ends it: what checks a CONNECT, such as an
// authentication backend, may be away for a while. The durable store remembers that across restarts,
// for the ClientID. It does not remember the other settings, so a password that was changed to a wrong
// one is tried again too; ConnectFailed events and the log report that. A store in memory remembers
// nothing: a process that restarts while the backend is away stops, unless When is StopNever.
type StopPolicy struct {
	When StopWhen // default StopNew
	// Codes are the reason codes that end the client when When applies; each from 0x80 on. Default:
	// reliability.StopCodes, which are 0x81, 0x82, 0x84 to 0x87, 0x8C, 0x90, 0x95 and 0x99 to 0x9B.
	Codes []byte
}

// StopWhen selects when a refusal with one of StopPolicy.Codes ends the client.
type StopWhen uint8

const (
	StopNew    StopWhen = iota // if no server has accepted this client before
	StopAlways                 // also if a server has accepted this client before
	StopNever                  // no refusal ends the client
)

// String returns the name in lower case.
func (w StopWhen) String() string { return nameOf(w, "stop", "new", "always", "never") }

func (v *validator) stop(p *StopPolicy) {
	const field = "Connection.StopOn."
	v.bad(p.When > StopNever, field+"When", "is %d; use StopNew, StopAlways or StopNever", p.When)
	for _, code := range p.Codes {
		v.bad(code < 0x80, field+"Codes", "has 0x%02X (%s), which refuses nothing; use codes from 0x80 on", code, reliability.ReasonName(code))
	}
	v.bad(p.When == StopNever && p.Codes != nil, field+"Codes", "is set together with StopNever, which uses no codes; set one of both")
}

// stopCodes are the codes as link.Policy takes them.
func (p *StopPolicy) stopCodes() []byte {
	if len(p.Codes) == 0 {
		return nil
	}
	return slices.Clone(p.Codes)
}
