// Package outbox delivers accepted messages to the server: it stores each QoS 1
// or 2 message, sends it on every connection until the server acknowledges it,
// and ends it with exactly one result.
//
// The path of a message is in path.go, from top to bottom: Add, Run, offer,
// Acknowledged, end. Each other file holds one idea:
//
//	outbox.go     Outbox: what it consists of, its connection, its end
//	config.go     what the outbox needs, and what it reports
//	waiter.go     Waiter and Result: the result of one message, and waiting for it
//	open.go       the table of messages whose result is open
//	full.go       what Add does when the store is full; dropped messages
//	streams.go    numbering the messages of a stream in the order of the log
//	cursor.go     which message is next: resends first, then the log
//	watermark.go  how far messages may have been sent; free packet identifiers
//	expiry.go     ending messages whose time has passed, connected or not
//	poison.go     finding the message over which the server ends connections
//	lost.go       messages in flight in a session that the server has lost
//
// The store is the only list of messages. The send loop walks through it and
// starts at the front again on each connection, so a resend and a first send take
// the same path. The outbox knows a connection as a *session.Generation.
package outbox
