// Package client is an MQTT 5 client with durable delivery. A message that Publish accepted is
// delivered once and in order, despite lost connections, server restarts, power cuts and kill -9.
// The application can query the outcome of each message.
//
//	c, err := client.New(client.Config{
//		Servers: []string{"mqtts://broker.example"}, ClientID: "pump-7", Dir: "/var/lib/pump",
//	})
//	c.Subscribe(ctx, "pump/7/set", client.ExactlyOnce, handler) // before Start, to miss no message
//	c.Start(ctx)
//	d, err := c.Publish(ctx, client.Message{Topic: "pump/7/rpm", Payload: p, QoS: client.ExactlyOnce})
//	…
//	outcome, err := d.Wait(ctx) // optional
//	c.Close()
//
// # Guarantees
//
// Publishing at QoS 1 and 2: when Publish returns a nil error, the message is in the store. Publish
// works in the same way while the client is offline. The store's sync policy selects which failures
// the message survives. Each message is pending or has exactly one outcome. At every moment,
// Stats().Store satisfies accepted = acked + refused + expired + dropped + dead-lettered + pending.
// The client keeps the order of messages that have the same priority (Message.Priority). At QoS 1
// the server receives a message at least once. At QoS 2 the server receives the message exactly
// once, as long as it keeps the session. If the server loses the session, Config.Session.OnLost
// selects what happens to messages in flight.
//
// Receiving: the client acknowledges a message after its handler has accepted it. A QoS 2 message
// is handled once, across reconnects and restarts. There is one exception: the process may crash
// after the handler has acted and before the client has recorded that. To cover this case too, keep
// Config.Receiving.Dedupe in the database to which the handler writes. With
// Config.Receiving.Ordering, the client handles numbered messages in order, and reports every
// missing number. If no handler matches a message, the message waits for a handler to be declared.
// If none is declared in time, the client acknowledges the message and keeps it in a list (see
// Client.SetAside). Without Config.Dir, the client refuses the message instead. The client never
// discards such a message silently.
//
// Presence: with Config.Presence.Status, a retained topic shows whether the client is online.
//
// # Concurrency
//
// All methods of Client and Delivery are safe for concurrent use, also in handlers. Messages with
// the same ordering key (by default the topic) are handled one after the other.
// Config.Receiving.Concurrency workers handle messages in parallel. Each worker has a queue, and
// several ordering keys share it. A handler that does not return therefore also delays other topics.
// The client has no timeout for handlers, but it reports slow ones ([HandlerSlow]). When Done is closed, all goroutines of the client have ended. Close and Drain normally wait until all
// goroutines have ended.
//
// # Further reading
//
// docs/guides begins with a device and a backend, docs/patterns.md shows patterns for applications,
// docs/guides/operating.md explains log lines, docs/doctor.md explains configuration findings, and
// docs/architecture.md describes the design.
package client
