// Package session implements the protocol state of an MQTT session in both directions: the packet
// identifier of each message, the progress of each QoS 1 and QoS 2 exchange, the room in the
// Receive Maximum, and the order of acknowledgements.
//
// A [Session] outlives connections. A [Generation] belongs to one connection. Each received packet
// is passed to the generation of its connection, and a generation that is not current drops it.
// Unacknowledged messages stay in the store, and the outbox offers them again on a new connection.
//
// The session's lock is not held while a packet is written. Functions that run on the reading
// goroutine do not wait for the disk or the server. They queue acknowledgements. [Session.RunAcks]
// syncs the store once for all queued acknowledgements and sends them.
package session
