// Package client is an MQTT 5 client that keeps its word: what Publish accepted
// is delivered, once, in order, through link cuts, server restarts, power cuts
// and kill -9, and the program can ask what became of it.
//
//	c, err := client.New(client.Config{
//		Servers: []string{"mqtts://broker.example"}, ClientID: "pump-7", Dir: "/var/lib/pump",
//	})
//	c.Subscribe(ctx, "pump/7/set", client.ExactlyOnce, handler) // before Start: nothing is missed
//	c.Start(ctx)
//	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: p, QoS: client.ExactlyOnce})
//	…
//	outcome, err := d.Wait(ctx) // or never look at it
//	c.Close()
//
// # What is promised
//
// Publishing at QoS 1 and 2: a nil error means that the message is in the store,
// durable under its sync policy, whether connected or not. From there on each
// message is pending or ends in exactly one way, and Stats().Store adds up at every
// moment: accepted = acked + refused + expired + dropped + dead-lettered + pending.
// Order is kept within a priority (Message.Priority). What Config.Store.WhenFull or
// Message.Conflate drops was not sent, ends as Dropped and is told of. At QoS 1 the
// server gets it at least once, at QoS 2 exactly once as long as it keeps the
// session. Where it lost the session, Config.Session.OnLost decides.
//
// Receiving: a message is acknowledged when its handler accepted it and not
// before. A QoS 2 message is handled once through reconnects and restarts; what
// is left is a crash between the handler's effect and its record, and
// Config.Receiving.Dedupe over the store that holds the effect closes that too. With
// Config.Receiving.Ordering, messages of a sequenced publisher come in order and every
// gap is reported. A message that nobody handles is refused, never silently
// acknowledged.
//
// With Config.Presence.Status a retained topic says whether the client is online, and is
// not left wrong while anyone can correct it.
//
// # The two paths
//
// Publish checks and stamps the message, appends it to the store (that is the
// point of no return) and wakes the drainer, the one goroutine that sends. It
// reads the store in order, the highest priority first, gives each message the
// packet identifier that follows from its place in the log, and hands batches to the connection, as far
// as the server's Receive Maximum and the circuit breaker allow. An
// acknowledgement makes the outcome final in the store and resolves the
// Delivery. On a new connection the drainer begins again at the front, with what
// was sent before, so a resend is nothing special. See publish.go, drain.go and
// feed.go.
//
// A received message goes from the reader's goroutine into the queue of a worker.
// The worker takes it through dedupe, ordering and the handlers. Its acknowledgement
// leaves when those of all messages received before it have left [MQTT-4.6.0-2]. See
// receive.go and internal/inbox.
//
// # Concurrency
//
// All methods of Client and Delivery may be called from any goroutine, handlers
// included. Handlers of one ordering key (by default the topic) run one after the
// other, others in parallel in up to Config.Receiving.Concurrency goroutines. There is no
// goroutine per message. Every goroutine of the client has ended when Close or
// Drain returns, or Done is closed.
//
// No lock is held while a handler or OnEvent is called. The locks, and who may take
// which, are in docs/architecture.md.
package client
