// Package client is an MQTT 5 client that keeps its word: what Publish accepted
// is delivered, once, in order, through link cuts, server restarts, power cuts
// and kill -9, and the application can ask what became of it.
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
// # Guarantees
//
// Publishing at QoS 1 and 2: a nil error means that the message is in the store, durable under its
// sync policy, whether connected or not. Each message is pending or ends in exactly one way, and
// Stats().Store adds up at every moment: accepted = acked + refused + expired + dropped +
// dead-lettered + pending. Order is kept within a priority (Message.Priority). At QoS 1 the server
// gets a message at least once, at QoS 2 exactly once as long as it keeps the session. If it lost
// the session, Config.Session.OnLost decides.
//
// Receiving: a message is acknowledged after its handler has accepted it. A QoS 2 message is
// handled once through reconnects and restarts, except for a crash between the handler's effect and
// its record; Config.Receiving.Dedupe over the store that holds the effect closes that gap too.
// With Config.Receiving.Ordering, messages of a sequenced publisher come in order and every gap is
// reported. A message without a handler waits for one and is then set aside, never silently acknowledged.
//
// With Config.Presence.Status a retained topic shows whether the client is online.
//
// # Concurrency
//
// All methods of Client and Delivery may be called from any goroutine, handlers
// included. Handlers of one ordering key (by default the topic) run one after the
// other, others in parallel in up to Config.Receiving.Concurrency goroutines. There is
// no goroutine per message. Every goroutine of the client has ended when Close or
// Drain returns, or Done is closed. No lock is held while a handler or OnEvent is called.
package client
