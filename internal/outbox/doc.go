// Package outbox delivers accepted messages to the server. It stores each QoS 1 or 2 message, sends
// it on every connection until the server acknowledges it, and ends it with exactly one result.
//
// The file path.go shows the path of a message from top to bottom: Add, Run, offer, Acknowledged,
// end. Only path.go and outbox.go end messages. The file send.go has the checks that the send loop
// makes before it sends a message. The file retry.go defers messages that the server refuses for
// now and sends them again; package deferral keeps the state of deferred messages. The other files
// keep state and make decisions. A new reason to end a message is a new Cause. A hook on a stage of
// the path is a function of Config that path.go calls.
//
// The store holds the only list of messages. The send loop walks through it and starts at the front
// again on each connection, so a resend takes the same path as a first send. A connection is a
// *session.Generation.
package outbox
