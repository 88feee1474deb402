package mqtttest

// Stats contains the present values of the broker, and its counters since the start.
type Stats struct {
	Connections   int // present number of connections
	Sessions      int // present number of sessions, with or without a connected client
	Subscriptions int // present number of subscriptions
	Retained      int // present number of retained messages
	Queued        int // present number of messages in all queues
	InFlight      int // present number of messages that were sent and are not completely acknowledged

	ConnectionsTotal uint64
	Refused          uint64 // CONNECT packets that were refused
	TakenOver        uint64 // connections that ended because the same client connected again
	ProtocolErrors   uint64 // connections that ended because of an invalid packet
	SessionsExpired  uint64

	MessagesIn     uint64 // received PUBLISH packets, including duplicates
	MessagesOut    uint64 // PUBLISH packets that were sent for the first time
	Resent         uint64 // PUBLISH and PUBREL packets that were resent
	Duplicates     uint64 // QoS 2 messages that were received again, and not forwarded again
	WillsPublished uint64
	Redistributed  uint64 // messages that were given to another member of a Shared Subscription
	Unauthorized   uint64 // messages that Options.Authorize refused

	DroppedQueueFull uint64 // messages dropped because of Options.MaxQueuedMessages or MaxQueuedBytes
	DroppedExpired   uint64 // messages dropped because they expired before they were sent
	DroppedTooLarge  uint64 // messages dropped because they exceed the subscriber's Maximum Packet Size
	DroppedOffline   uint64 // QoS 0 messages dropped because the client was not connected
	DroppedRetained  uint64 // messages refused because of Options.MaxRetained or MaxRetainedBytes
}
