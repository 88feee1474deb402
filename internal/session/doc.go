// Package session is the protocol state of an MQTT session in both directions: the packet
// identifier of each message, the progress of each QoS 1 and QoS 2 exchange, the room in the
// Receive Maximum, and the order of acknowledgements.
//
// A [Session] outlives connections; a [Generation] belongs to one. Each received packet is
// passed to the generation of its connection, so those of an older one are dropped.
// Unacknowledged messages stay in the store: the outbox offers them again on a new connection.
//
// The session's lock is not held while a packet is written. Functions called on the reading
// goroutine do not wait for the disk or the server: acknowledgements are queued, and sent by
// [Session.RunAcks], which syncs the store once for all of them.
package session
