package client

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Subscription is a subscription of the application, and what the server has answered.
type Subscription struct {
	Filter  string
	QoS     QoS // the highest that was asked for
	State   SubscriptionState
	Granted QoS   // the highest at which the server sends messages, if State is SubscriptionActive
	Err     error // of the last attempt; nil: not attempted yet, or granted
}

// SubscriptionState is the state of a Subscription.
type SubscriptionState uint8

const (
	// SubscriptionPending: the present session is not known to have the subscription. The client
	// asks for it, now or on the next connection.
	SubscriptionPending SubscriptionState = iota
	SubscriptionActive                    // the server has granted it in the present session
	// SubscriptionRefused: the server has refused the subscription. If Subscribe returned the error, the
	// subscription is not kept. Otherwise the client asks again on the next connection.
	SubscriptionRefused
)

// String returns its name in lower case.
func (s SubscriptionState) String() string {
	return nameOf(s, "subscription state", "pending", "active", "refused")
}

// subscription returns the state in the table of subscriptions.
func subscription(a subs.Answer) Subscription {
	return Subscription{a.Filter, QoS(a.QoS), SubscriptionState(a.State), QoS(a.Granted), refusedError(a.Err)}
}

// SubscribeRequest is one subscription for SubscribeAll, with the arguments of Subscribe.
type SubscribeRequest struct {
	Filter  string
	QoS     QoS
	Handler Handler
	Options []SubscribeOption
}

// SubscribeError reports the subscriptions of a SubscribeAll that failed. errors.As finds the
// *RefusedError of the first that the server refused.
type SubscribeError struct {
	Failed []Subscription // each with its Err
	All    int            // how many were asked for
}

func (e *SubscribeError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client: %d of %d subscriptions failed", len(e.Failed), e.All)
	for i, s := range e.Failed {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Failed)-i)
			break
		}
		fmt.Fprintf(&b, "; %s: %v", s.Filter, s.Err)
	}
	return b.String()
}

// Unwrap returns the errors of the subscriptions.
func (e *SubscribeError) Unwrap() (list []error) {
	for _, s := range e.Failed {
		list = append(list, s.Err)
	}
	return list
}

// SafeToRetry returns true: to subscribe twice has no further effect.
func (*SubscribeError) SafeToRetry() bool { return true }

// SubscribeOption changes a subscription.
type SubscribeOption func(*subscribing)

// subscribing is what SubscribeOptions change.
type subscribing struct {
	subs.Want
	hasID bool
}

// NoLocal suppresses messages that this client published itself. A Shared
// Subscription cannot have it [MQTT-3.8.3-4].
func NoLocal() SubscribeOption { return func(s *subscribing) { s.NoLocal = true } }

// RetainAsPublished keeps the RETAIN flag as the publisher set it. Without it only
// messages that were retained when the subscription was made have Retain set.
func RetainAsPublished() SubscribeOption {
	return func(s *subscribing) { s.Want.RetainAsPublished = true }
}

// SendRetained selects when the server sends the retained messages that match a filter.
type SendRetained uint8

const (
	// SendRetainedAlways: for each handler that a process declares by Subscribe, and when the server
	// has lost the session. Not when a connection is resumed. This is the default.
	SendRetainedAlways SendRetained = iota
	// SendRetainedIfNew: when the server's session does not have the subscription. So a restarted
	// process whose session was kept does not get them.
	SendRetainedIfNew
	SendRetainedNever
)

// RetainHandling selects when the server sends retained messages. It does not matter whether
// Subscribe is called before Start or after it.
func RetainHandling(when SendRetained) SubscribeOption {
	return func(s *subscribing) { s.Want.RetainHandling = byte(when) }
}

// SubscriptionID has the server send id with each message of this subscription, see
// Message.SubscriptionIDs. Its range is 1 to 134,217,727; the client uses higher values itself, to
// find the subscription of a message. Several subscriptions may have the same id. If their filters
// match the same message, their handlers may get it once for each of them. If the server has no
// Subscription Identifiers, the error is a *RefusedError with 0xA1.
func SubscriptionID(id uint32) SubscribeOption {
	return func(s *subscribing) { s.ID, s.hasID = id, true }
}

// SubscribeProperties sends user properties with each SUBSCRIBE. The server defines their meaning.
func SubscribeProperties(list ...UserProperty) SubscribeOption {
	list = slices.Clone(list)
	return func(s *subscribing) { s.User = append(s.User, list...) }
}

// want checks a request and returns the subscription that it asks for.
func (r *SubscribeRequest) want() (*subs.Want, error) {
	if r.QoS > ExactlyOnce {
		return nil, &FieldError{Field: "QoS", Problem: fmt.Sprintf("is %d; use 0, 1 or 2", r.QoS)}
	}
	s := subscribing{Want: subs.Want{Filter: r.Filter, QoS: byte(r.QoS)}}
	for _, o := range r.Options {
		o(&s)
	}
	err := cmp.Or(wire.CheckTopicFilter(r.Filter), checkUser(s.User))
	switch {
	case err != nil:
		return nil, fieldError(err)
	case s.NoLocal && isShared(r.Filter):
		return nil, &FieldError{Field: "No Local", Problem: "is not allowed on a Shared Subscription [MQTT-3.8.3-4]; remove it"}
	case s.hasID && (s.ID == 0 || s.ID >= subs.FirstID):
		return nil, &FieldError{Field: "Subscription Identifier", Problem: fmt.Sprintf("is %d; use 1 to 134,217,727", s.ID)}
	case s.Want.RetainHandling > byte(SendRetainedNever):
		return nil, &FieldError{Field: "Retain Handling", Problem: fmt.Sprintf("is %d; use SendRetainedAlways, SendRetainedIfNew or SendRetainedNever", s.Want.RetainHandling)}
	case r.Handler == nil:
		return nil, errors.New("client: Subscribe needs a Handler")
	}
	return &s.Want, nil
}

// checkUser returns why MQTT cannot carry user properties, or nil.
func checkUser(list []UserProperty) error {
	for _, p := range list {
		if err := cmp.Or(wire.CheckString("UserProperties", p.Key), wire.CheckString("UserProperties", p.Value)); err != nil {
			return err
		}
	}
	return nil
}
