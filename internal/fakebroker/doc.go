// Package fakebroker is a scripted server that works on the level of bytes and packets. It has no
// behavior of its own. A test defines which packets it expects from the client, as bytes or
// decoded, and which bytes it sends: complete, in pieces, many packets in one segment, or garbage.
// The server answers only what the test answers.
//
// A Broker is the client's dialer, over net.Pipe ([New]) or TCP ([NewTCP]). Each connection is a
// [Conn]. It reads everything that the client sends at once, so the client never waits for the
// test. If something that the test expects does not arrive, Fatalf ends the test, at the latest
// after Broker.Timeout.
//
// Over net.Pipe, all functions work in testing/synctest. Only there can [Conn.Quiet] check that
// nothing is sent. Timeout is fake time then.
package fakebroker
