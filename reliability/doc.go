// Package reliability holds the small decisions that make delivery dependable:
// how long to wait before trying again ([Backoff], [Retry]), when to stop trying
// for a while ([Breaker]), how long to wait for an acknowledgement ([Await]),
// what a reason code means ([Classify]) and which QoS a message deserves
// ([Advise], [ForCategory]).
//
// It knows nothing of connections and packets, starts no goroutine and keeps no
// timer after a call returns.
//
// Retrying belongs below the point where a message was accepted and stored,
// never above it: calling publish again because its outcome is unknown makes a
// second message.
package reliability
