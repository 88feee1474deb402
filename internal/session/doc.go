// Package session is the protocol state of an MQTT session, both directions:
// which packet identifier carries which message, how far each QoS 1 and QoS 2
// exchange has come, how much the peer's Receive Maximum leaves, and in which
// order acknowledgements go out.
//
// A [Session] outlives connections; a [Generation] is its part that belongs to
// one of them. Everything that arrives is handed to the generation of the
// connection it arrived on, so an acknowledgement of an older connection finds
// an older generation and is dropped. What is unacknowledged is not kept here
// a second time: the store knows it, and on a new connection the drainer
// offers it again from the beginning.
//
// Nothing here writes to a connection while holding the session's lock, and
// nothing that is called on the reader's goroutine waits for the disk or for a
// peer: acknowledgements are queued and leave through [Session.RunAcks], which
// syncs the store once for all that owe it.
package session
