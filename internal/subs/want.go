package subs

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
	RetainHandling    byte   // of the first SUBSCRIBE; the table repeats it with 2
	ID                uint32 // Subscription Identifier; 0: none
}

// Subscription Identifiers from FirstID to LastID are the client's own: applications may neither
// use nor see them. A server without Subscription Identifiers is asked without them.
const (
	FirstID       = 200_000_000
	LastID        = 200_065_535
	MarkerID      = FirstID
	ApplicationID = FirstID + 1 // of application subscriptions without an identifier of their own, beside a view
	StatusID      = FirstID + 2
	ViewID        = FirstID + 4 // the first of those for views
)

// Internal reports whether a Subscription Identifier is one of the client's own.
func Internal(id uint32) bool { return id >= FirstID && id <= LastID }

// Result reports to an owner what became of one of its subscriptions.
type Result struct {
	Owner     Owner
	Want      Want  // as the owner set it; when it has ended, Filter only
	Err       error // the server refused, or cannot take, the request
	Displaced bool  // another owner's request has replaced it at the server: a view has to fetch anew
	Ended     bool  // it was removed, also at the server
	// Asked and Granted differ if the server has granted a lower QoS than was asked for.
	Asked, Granted byte
}

// RefusedError is a refusal by the server, or of what this server cannot take.
type RefusedError struct {
	Code   byte
	Reason string
}

func (e *RefusedError) Error() string { return "subscription refused: " + e.Reason }

// ReasonCode returns the reason code, for reliability.Classify.
func (e *RefusedError) ReasonCode() byte { return e.Code }
