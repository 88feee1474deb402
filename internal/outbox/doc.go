// Package outbox delivers accepted messages to the server: it stores each QoS 1 or 2 message, sends
// it on every connection until the server acknowledges it, and ends it with exactly one result.
//
// The path of a message is in path.go, from top to bottom: Add, Run, offer, Acknowledged, end. Only
// path.go and outbox.go end messages; send.go has what the send loop asks first, and retry.go defers
// messages that the server refuses for now and sends them again (package deferral has the state). The
// other files keep state and decide. A new end is one more Cause, and a hook on a stage is a function
// of Config that path.go calls.
//
// The store is the only list of messages. The send loop walks through it and
// starts at the front again on each connection, so a resend and a first send take
// the same path. The outbox knows a connection as a *session.Generation.
package outbox
