package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Subscription is a subscription of the application with the server's answer.
type Subscription struct {
	Filter  string
	QoS     QoS // the requested maximum QoS
	State   SubscriptionState
	Granted QoS   // the maximum QoS that the server granted, if State is SubscriptionActive
	Err     error // error of the last attempt; nil if the server granted the subscription or has not answered yet

	table *subs.Table
}

// Wait waits until the server has answered, and returns the state with the answer. Use Wait for a
// subscription that was made before Start. Wait returns nil as soon as the subscription is active.
//
// After a refusal, Wait returns the *RefusedError. The client repeats the subscription, see
// Client.Subscribe, so a later call of Wait may succeed. If the subscription has ended, because of
// Unsubscribe or because Subscribe returned a refusal, Wait returns an error. If ctx ends, the
// error contains the cause of ctx and the error of the last attempt to connect. If the client
// stops, the error is the reason why it stopped.
func (s Subscription) Wait(ctx context.Context) (Subscription, error) {
	if s.table == nil {
		return s, ErrNilClient
	}
	a, known, err := s.table.Await(ctx, s.Filter)
	if !known {
		return s, cmp.Or(s.Err, fmt.Errorf("client: the subscription to %s has ended; call Subscribe again", s.Filter))
	}
	s = subscription(a, s.table)
	return s, cmp.Or(err, s.Err)
}

// SubscriptionState is the state of a Subscription.
type SubscriptionState uint8

const (
	// SubscriptionPending means that the server has not yet granted the subscription in the present
	// session. The client sends SUBSCRIBE now or on the next connection.
	SubscriptionPending SubscriptionState = iota
	SubscriptionActive                    // the server has granted the subscription in the present session
	// SubscriptionRefused means that the server refused the subscription and has not granted it
	// since. If Subscribe returned the error, the client does not keep the subscription. Otherwise
	// the client tries again, see Client.Subscribe.
	SubscriptionRefused
)

// String returns the state's name in lower case.
func (s SubscriptionState) String() string {
	return nameOf(s, "subscription state", "pending", "active", "refused")
}

// subscription converts an entry of the table of subscriptions.
func subscription(a subs.Answer, t *subs.Table) Subscription {
	return Subscription{a.Filter, QoS(a.QoS), SubscriptionState(a.State), QoS(a.Granted), refusedError(a.Err), t}
}

// SubscribeRequest holds the arguments of Subscribe for one subscription of SubscribeAll.
type SubscribeRequest struct {
	Filter  string
	QoS     QoS
	Handler Handler
	Options []SubscribeOption
}

// SubscribeError reports the subscriptions that failed in a call of SubscribeAll. errors.As finds
// the *RefusedError of the first subscription that the server refused.
type SubscribeError struct {
	Failed []Subscription // each with its Err
	All    int            // number of requested subscriptions
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

// SafeToRetry returns true, because subscribing twice has no further effect.
func (*SubscribeError) SafeToRetry() bool { return true }

// SubscribeOption is an option of a subscription.
type SubscribeOption func(*subscribing)

// subscribing collects the options of a subscription.
type subscribing struct {
	subs.Want
	hasID bool
}

// NoLocal suppresses messages that this client published. NoLocal is not allowed for a Shared
// Subscription [MQTT-3.8.3-4].
func NoLocal() SubscribeOption { return func(s *subscribing) { s.NoLocal = true } }

// RetainAsPublished keeps the RETAIN flag of the publisher. Without it, Retain is set only on
// messages that were already retained when the subscription was made.
func RetainAsPublished() SubscribeOption {
	return func(s *subscribing) { s.Want.RetainAsPublished = true }
}

// DedupeRetained makes ReceivingConfig.Dedupe suppress retained messages that the server sends for a
// new subscription. Without it, each process that subscribes handles the retained messages again,
// and each process learns the present state of the topics. With it, each of them is handled once.
func DedupeRetained() SubscribeOption { return func(s *subscribing) { s.Want.DedupeRetained = true } }

// SendRetained selects when the server sends the retained messages that match a filter.
type SendRetained uint8

const (
	// SendRetainedAlways, the default, requests the retained messages for each handler that a
	// process declares with Subscribe, and after the server has lost the session. When a connection
	// resumes the session, the client does not request them.
	SendRetainedAlways SendRetained = iota
	// SendRetainedIfNew requests the retained messages only if the server's session does not
	// contain the subscription yet. If the server kept the session, a restarted process does not
	// receive them.
	SendRetainedIfNew
	SendRetainedNever
)

// RetainHandling selects when the server sends retained messages. The effect is the same whether
// Subscribe is called before or after Start.
func RetainHandling(when SendRetained) SubscribeOption {
	return func(s *subscribing) { s.Want.RetainHandling = byte(when) }
}

// SubscriptionID makes the server send id with each message of this subscription, see
// Message.SubscriptionIDs. The range of id is 1 to 134,217,727. The client itself uses higher
// identifiers, to find the subscription of a message.
//
// Several subscriptions may share an id. If their filters match the same message, their handlers
// may receive the message once per subscription. If the server does not support Subscription
// Identifiers, Subscribe returns a *RefusedError with 0xA1.
func SubscriptionID(id uint32) SubscribeOption {
	return func(s *subscribing) { s.ID, s.hasID = id, true }
}

// SubscribeProperties sends user properties with each SUBSCRIBE. The server defines the meaning of
// these properties.
func SubscribeProperties(list ...UserProperty) SubscribeOption {
	list = slices.Clone(list)
	return func(s *subscribing) { s.User = append(s.User, list...) }
}

// want validates a request and returns its subscription.
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
		return nil, errors.New("client: cannot subscribe: the Handler is nil; pass a Handler or a HandlerFunc")
	}
	return &s.Want, nil
}

// checkUser returns an error if MQTT cannot carry the user properties.
func checkUser(list []UserProperty) error {
	for _, p := range list {
		if err := cmp.Or(wire.CheckString("UserProperties", p.Key), wire.CheckString("UserProperties", p.Value)); err != nil {
			return err
		}
	}
	return nil
}

// refusedError converts the refusal of a subscription into a public error.
func refusedError(err error) error {
	if refused := (*subs.RefusedError)(nil); errors.As(err, &refused) {
		return &RefusedError{Code: refused.Code, Reason: refused.Reason, about: refused.Filter}
	}
	if bad := (*wire.Error)(nil); errors.As(err, &bad) {
		return converted(bad)
	}
	return err
}
