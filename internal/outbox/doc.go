// Package outbox delivers accepted messages to the server: it stores each QoS 1
// or 2 message, sends it on every connection until the server acknowledges it,
// and ends it with exactly one result.
//
// The path of a message is in path.go, from top to bottom: Add, Run, offer,
// Acknowledged, end. Each other file holds one idea:
//
//	outbox.go     Outbox: what it consists of, its connection, its end
//	config.go     what the outbox needs, what it reports, the draft of a message
//	result.go     End, and Waiter: how a message ended, and waiting for it
//	open.go       the table of messages whose result is open
//	streams.go    the numbers of a stream
//	cursor.go     which message is next: resends first, then the log
//	watermark.go  how far messages may have been sent; free packet identifiers
//	expiry.go     when messages expire while they wait, connected or not
//	poison.go     which message makes the server end connections
//	lost.go       which messages were in flight in a lost session
//
// These files keep state and decide; only outbox.go and path.go end messages and use the
// connection. A new rule for waiting (a message that is deferred) is
// one more verdict of offer, a new end is one more Cause, and a hook on a stage is a
// function of Config that path.go calls.
//
// The store is the only list of messages. The send loop walks through it and
// starts at the front again on each connection, so a resend and a first send take
// the same path. The outbox knows a connection as a *session.Generation.
package outbox
