package subs

import (
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Owner is a part of the client that wants subscriptions.
type Owner uint8

// The table requests the wants of the owners in this order.
const (
	Application Owner = iota // restored in every session, in the order of declaration
	Status                   // receives this client's own status topic
	Marker                   // the topic of the message that ends a fetch
	View                     // fetches and tracks retained messages
	owners
)

// Want is a subscription that an owner wants.
type Want struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	DedupeRetained    bool   // not part of the SUBSCRIBE
	RetainHandling    byte   // for the SUBSCRIBE that creates the subscription; 2 if it is only changed
	ID                uint32 // Subscription Identifier; 0: none
	User              []wire.UserProperty
	Made              *Made // updated by the table; may be nil
}

// Made records when the server made a subscription. Its methods are safe for concurrent use.
type Made struct{ state atomic.Uint64 }

// Order returns the position of the subscription among those that this process has made in the
// session, from 1. It returns 0 if the subscription is not known to exist. If two subscriptions
// match a message, the one with the lower position has also received every message that the other
// one has. first reports whether the session had no such subscription before, because the session
// began in this process.
func (m *Made) Order() (n uint64, first bool) {
	s := m.state.Load()
	return s >> 1, s&1 != 0
}

// Set sets the result of Order.
func (m *Made) Set(n uint64, first bool) {
	if n <<= 1; first && n != 0 {
		n |= 1
	}
	if m != nil {
		m.state.Store(n)
	}
}

// State is the state of a subscription, according to the server's answer.
type State uint8

const (
	Pending State = iota // the server's present session is not known to have the subscription
	Active               // the server has granted it
	Refused              // the server has refused it on this connection, and has not granted it since
)

// Answer describes a subscription of the application.
type Answer struct {
	Want
	State   State
	Granted byte  // QoS, if Active
	Err     error // the reason if Refused, or the error of the last attempt
}

// Result reports the outcome of a subscription to its owner.
type Result struct {
	Owner     Owner
	Want      Want  // as the owner set it; after the end, only Filter
	Err       error // the server has refused the request or cannot accept it
	Displaced bool  // another owner's request has replaced it at the server, so a view must fetch again
	Ended     bool  // it was removed, also at the server
	// Recovered: the server has granted the request after a refusal that was reported.
	Recovered bool
	// Asked and Granted are set if Recovered is set, or if the server has granted a lower QoS than
	// requested.
	Asked, Granted byte
	// Overlaps is another subscription of the application that matches the same messages, on a
	// server without Subscription Identifiers. It is reported once.
	Overlaps string
}

// RefusedError reports that the server refused a request, or that the server cannot accept it.
type RefusedError struct {
	Code   byte
	Filter string
	Reason string // the server's Reason String, or advice if the server cannot accept the request; may be empty
}

func (e *RefusedError) Error() string { return "subscription refused: " + e.Filter + ": " + e.Reason }

// ReasonCode returns the reason code for reliability.Classify.
func (e *RefusedError) ReasonCode() byte { return e.Code }
