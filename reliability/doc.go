// Package reliability contains functions and types for the decisions that a reliable client must
// make:
//
//   - [Backoff] and [Retry]: how long to wait before the next attempt.
//   - [Breaker]: when to stop attempts for some time.
//   - [Await]: how long to wait for an acknowledgement.
//   - [Classify], [OnConnack] and [OnDisconnect]: what a reason code means.
//   - [SafeToRetry]: whether a retry can create a duplicate.
//   - [Advise] and [ForCategory]: which QoS a message should have.
//
// The package starts no goroutine and leaves no timer running. This loop keeps a connection up:
//
//	var retry reliability.Retry
//	for ctx.Err() == nil {
//		if conn, err := dial(ctx); err == nil {
//			retry.Up()
//			serve(ctx, conn) // returns when the connection has ended
//			retry.Down()
//		}
//		time.Sleep(retry.Next())
//	}
//
// Do not publish a message again after the client has accepted and stored it. A caller that
// publishes again because the outcome is unknown creates a second message.
package reliability
