package mqtttest

// Stats are the broker's gauges, and its counters since the start.
type Stats struct {
	Connections   int // now
	Sessions      int // now, connected or not
	Subscriptions int // now
	Retained      int // now
	Queued        int // messages in all queues now
	InFlight      int // messages sent and not completely acknowledged now

	ConnectionsTotal uint64
	Refused          uint64 // refused CONNECTs
	TakenOver        uint64 // connections ended because the same client connected again
	ProtocolErrors   uint64 // connections ended because of an invalid packet
	SessionsExpired  uint64

	MessagesIn     uint64 // PUBLISH packets received, duplicates included
	MessagesOut    uint64 // PUBLISH packets sent for the first time
	Resent         uint64 // PUBLISH and PUBREL packets resent
	Duplicates     uint64 // QoS 2 messages received again and not forwarded again
	WillsPublished uint64
	Redistributed  uint64 // given to another member of a Shared Subscription
	Unauthorized   uint64 // messages refused by Options.Authorize

	DroppedQueueFull uint64 // dropped at Options.MaxQueuedMessages or MaxQueuedBytes
	DroppedExpired   uint64 // dropped because they expired before they were sent
	DroppedTooLarge  uint64 // dropped because they exceed the subscriber's Maximum Packet Size
	DroppedOffline   uint64 // QoS 0 messages dropped because the client was disconnected
	DroppedRetained  uint64 // refused at Options.MaxRetained or MaxRetainedBytes
}
