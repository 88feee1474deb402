// Package fakebroker is the other end of a connection, byte by byte: a server
// without any behaviour of its own. A test says which packets it expects from
// the client under test, as bytes or decoded, and which bytes it sends: whole,
// in pieces, many packets in one segment, or garbage. Nothing is answered unless
// the test says so.
//
// A Broker is the client's dialer, over net.Pipe ([New]) or TCP ([NewTCP]). Each
// connection is a [Conn]. What the client sends is read at once and kept, so
// that it never has to wait for the test. Whatever the test expects and does not
// get ends it by Fatalf, at the latest after Broker.Patience.
//
// Over net.Pipe everything works under testing/synctest, and only there can
// [Conn.Quiet] say that nothing is sent; Patience is fake time then.
package fakebroker
