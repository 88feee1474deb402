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
// Publishing at QoS 1 and 2: err == nil means that the message is in the store, durable under the
// store's sync policy, even while the client is offline. Each message is pending or has exactly one
// outcome. At every moment, Stats().Store satisfies accepted = acked + refused + expired + dropped
// + dead-lettered + pending. Order is kept within a priority (Message.Priority). At QoS 1 the
// server receives a message at least once. At QoS 2 it receives the message exactly once while it
// keeps the session. If the server loses the session, Config.Session.OnLost decides.
//
// Receiving: the client acknowledges a message after its handler has accepted it. A QoS 2 message
// is handled once, across reconnects and restarts. The exception is a crash after the handler's
// effect and before its record is written. To cover this case too, keep Config.Receiving.Dedupe in
// the store that holds the effect. With Config.Receiving.Ordering, messages of a sequenced
// publisher are handled in order and every gap is reported. A message without a handler waits for
// one and is then set aside; it is never acknowledged silently.
//
// Presence: with Config.Presence.Status, a retained topic shows whether the client is online.
//
// # Concurrency
//
// All methods of Client and Delivery are safe for concurrent use, also in handlers. Handlers of one
// ordering key (by default the topic) run one after the other. Others run in parallel, in up to
// Config.Receiving.Concurrency goroutines. All goroutines of the client have ended when Close or
// Drain returns, or when Done is closed.
//
// # Further reading
//
// docs/guides begins with a device and a backend, docs/patterns.md shows patterns for applications,
// docs/guides/operating.md explains log lines, docs/doctor.md explains configuration findings, and
// docs/architecture.md describes the design.
package client
