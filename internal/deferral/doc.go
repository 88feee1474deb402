// Package deferral has the state of messages that are not sent for now: which they are, until when,
// which topics wait for them, and how many messages may be in flight. It is pure: it reads and sends
// nothing. Package outbox acts on it.
package deferral
