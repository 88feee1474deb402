// Package reliability has the decisions of a reliable client: how long to wait before the next
// attempt ([Backoff], [Retry]), when to stop attempts for a while ([Breaker]), how long to wait for
// an acknowledgement ([Await]), what a reason code means ([Classify], [OnConnack], [OnDisconnect]),
// whether a retry can make a duplicate ([SafeToRetry]), and which QoS a message needs ([Advise],
// [ForCategory]). It starts no goroutine, and leaves no timer running.
//
// Retries belong below the point where a message is accepted and stored. A caller
// that publishes again because the outcome is unknown makes a second message.
package reliability
