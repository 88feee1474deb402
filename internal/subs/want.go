package subs

import (
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Owner is a part of the client that wants subscriptions.
type Owner uint8

// The server is asked for what they want in this order.
const (
	Application Owner = iota // restored on every session, in the order of declaration
	Status                   // listens to this client's own status topic
	Marker                   // the topic whose message ends a fetch
	View                     // fetches and follows retained messages
	owners
)

// Want is a subscription that an owner wants.
type Want struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // of the SUBSCRIBE that makes it; 2 when it is only changed
	ID                uint32 // Subscription Identifier; 0: none
	User              []wire.UserProperty
	Made              *Made // is kept up to date, if not nil
}

// Made is when the server made a subscription. Its methods are safe for concurrent use.
type Made struct{ state atomic.Uint64 }

// Order returns the place of the subscription among those that this process has had made in the
// session, from 1; 0: it is not known to exist. A subscription that was made earlier gets every
// message of its own that a later one gets. first reports whether the session had no such
// subscription before: it began in this process.
func (m *Made) Order() (n uint64, first bool) {
	s := m.state.Load()
	return s >> 1, s&1 != 0
}

// Set sets what Order returns.
func (m *Made) Set(n uint64, first bool) {
	if n <<= 1; first && n != 0 {
		n |= 1
	}
	if m != nil {
		m.state.Store(n)
	}
}

// State is what the server has answered.
type State uint8

const (
	Pending State = iota // the present session of the server is not known to have the subscription
	Active               // the server has granted it
	Refused              // the server has refused it on this connection
)

// Answer is what is known of a subscription of the application.
type Answer struct {
	Want
	State   State
	Granted byte  // QoS, if Active
	Err     error // why it is Refused, or of the last attempt
}

// Result reports to an owner what became of one of its subscriptions.
type Result struct {
	Owner     Owner
	Want      Want  // as the owner set it; when it has ended, Filter only
	Err       error // the server refused, or cannot take, the request
	Displaced bool  // another owner's request has replaced it at the server: a view has to fetch anew
	Ended     bool  // it was removed, also at the server
	// Asked and Granted differ if the server has granted a lower QoS than was asked for.
	Asked, Granted byte
	// Overlaps is another subscription of the application that the same messages match, at a
	// server without Subscription Identifiers. It is reported once.
	Overlaps string
}

// RefusedError is a refusal by the server, or of what this server cannot take.
type RefusedError struct {
	Code   byte
	Reason string
}

func (e *RefusedError) Error() string { return "subscription refused: " + e.Reason }

// ReasonCode returns the reason code, for reliability.Classify.
func (e *RefusedError) ReasonCode() byte { return e.Code }
