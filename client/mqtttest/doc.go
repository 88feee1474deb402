// Package mqtttest provides a broker that runs inside the process and a fault-injecting proxy, for
// tests of MQTT 5 clients.
//
//	b := mqtttest.Start(t)                             // a broker that ends with the test
//	fault := b.Next("pump", mqtttest.PUBACK).Swallow() // the next PUBACK to this client is lost
//	c, err := client.New(client.Config{Servers: []string{b.URL()}, ClientID: "pump"})
//	…
//	err = fault.Wait(ctx)
//
// The broker supports QoS 0, 1 and 2, sessions with expiry, retained messages, wills with delay,
// shared subscriptions, subscription identifiers, flow control and limits. Clients connect over
// TCP, TLS, WebSocket or in-process pipes. The broker does not support enhanced authentication. It
// answers a CONNECT that has an Authentication Method with 0x8C. With [WithDir], the state of the
// broker survives a restart and SIGKILL.
//
// A test can cut a connection, drop a session, kill the broker, observe every packet, and lower
// each limit. With [Broker.Next], a test changes one packet that the broker sends. It can drop,
// duplicate, delay, refuse, edit or replace the packet. [Broker.RefusePublishes] refuses messages
// for some time. [Broker.Publish] publishes a message. [Broker.Messages] and [Broker.WaitMessage]
// return what clients have published. [Broker.WaitConnected] and [Broker.WaitSubscribed] wait for a
// client. [Broker.Subscriptions] and [Broker.Queue] return the broker's state for a client. [Proxy]
// breaks connections.
//
// In a testing/synctest bubble, use [Options.NoTCP] and [Broker.Dial]. The broker then uses the
// bubble's time, so a will delay of an hour passes at once.
//
// With [Options.MQTT311], the broker also serves clients of MQTT 3.1.1.
//
// Every queue has a limit, see [Options]. Every reason to drop a message has a counter, see
// [Stats].
package mqtttest
