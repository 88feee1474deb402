package client

// SubscriptionFailed reports a subscription that the server refused, that could not be restored, or
// that has ended. The event is reported even if Subscribe also returns the error. On one
// connection, it is reported again only if the reason code changes. Client.Subscribe describes when
// the client requests the subscription again.
type SubscriptionFailed struct {
	Filter string
	Err    error
}

// SubscriptionGranted reports a subscription of the application that the server has granted after a
// refusal that was reported as SubscriptionFailed.
type SubscriptionGranted struct {
	Filter  string
	Granted QoS // the maximum QoS that the server granted
}

// SubscriptionDowngraded reports that the server granted a lower QoS than requested. At QoS 0, the
// server keeps no messages while this client is disconnected.
type SubscriptionDowngraded struct {
	Filter         string
	Asked, Granted QoS
}

func (SubscriptionFailed) event()     {}
func (SubscriptionGranted) event()    {}
func (SubscriptionDowngraded) event() {}
