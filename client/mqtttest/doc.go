// Package mqtttest is a test bed for MQTT 5 clients: a broker that runs inside
// the process, and a proxy that breaks connections on purpose.
//
// [Start] gives a test a broker in one line. It knows QoS 0, 1 and 2, sessions
// with expiry, retained messages, wills with delay, shared subscriptions,
// subscription identifiers, flow control and limits, over TCP, TLS, WebSocket and
// in-process pipes. What it has not is enhanced authentication: CONNECT with an
// Authentication Method is refused with 0x8C. With [WithDir] its state survives a
// restart and SIGKILL. Beyond what a broker in production offers, a test can
// cut a connection, take a session away, kill the broker without warning,
// watch every packet, and lower each limit.
//
// [Broker.Next] changes one packet that the broker sends, on a connection that
// goes on: it swallows, duplicates, delays, refuses, edits or replaces it.
// [Broker.Publish] publishes a message, [Broker.WaitConnected] and
// [Broker.WaitSubscribed] wait for a client, and [Broker.Subscriptions] and
// [Broker.Queue] show what the broker has for it. [Proxy] breaks connections.
//
//	b := mqtttest.Start(t)
//	lost := b.Next("pump", mqtttest.PUBACK).Swallow()
//
// In a testing/synctest bubble use [Options.NoTCP] and [Broker.Dial]: time is
// then the bubble's, and a will delay of an hour takes no time at all.
//
// With [Options.MQTT311] clients of MQTT 3.1.1 are served beside those of
// MQTT 5: their packets are translated where they come in and go out.
//
// Every queue has a limit and every drop a counter, see [Options] and [Stats].
package mqtttest
