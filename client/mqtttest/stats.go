package mqtttest

// Stats are the broker's counters since it was started, and its gauges.
type Stats struct {
	Connections   int // now
	Sessions      int // now, connected or not
	Subscriptions int // now
	Retained      int // now
	Queued        int // messages in all queues now
	InFlight      int // messages sent and not fully acknowledged now

	ConnectionsTotal uint64
	Refused          uint64 // CONNECTs answered with a failure
	TakenOver        uint64 // connections ended by another one of the same client
	ProtocolErrors   uint64 // connections ended because of what the client sent
	SessionsExpired  uint64

	MessagesIn     uint64 // PUBLISH packets received, duplicates included
	MessagesOut    uint64 // PUBLISH packets sent for the first time
	Resent         uint64 // PUBLISH and PUBREL packets sent again
	Duplicates     uint64 // QoS 2 messages received again and not passed on again
	WillsPublished uint64
	Redistributed  uint64 // given to another member of a Shared Subscription
	Unauthorized   uint64 // messages refused by Options.Authorize

	DroppedQueueFull uint64 // Options.MaxQueuedMessages or MaxQueuedBytes
	DroppedExpired   uint64 // Message Expiry Interval over before they were sent
	DroppedTooLarge  uint64 // above the Maximum Packet Size of the subscriber
	DroppedOffline   uint64 // QoS 0 for a client that is away
	DroppedRetained  uint64 // Options.MaxRetained
}
