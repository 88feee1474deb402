// Package deferral keeps the state of messages that are not sent for now: which messages, until
// when, which topics wait for them, and how many messages may be in flight. It does no I/O. Package
// outbox acts on the state.
package deferral
