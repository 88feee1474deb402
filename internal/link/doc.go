// Package link manages the connection to the server: dialing, CONNECT and CONNACK, the byte stream
// in both directions, keep alive, and the reaction to the end of a connection.
//
// A [Link] keeps one connection. Each connection is an [Up], identified by its pointer. The
// [Policy] decides what follows the end of a connection. The [Identity] decides which session is
// resumed.
//
// paho.golang uses a [Conn] as its net.Conn. The Conn splits the received bytes into packets, and
// passes PUBLISH and its acknowledgements to the session at once. It checks all other packets and
// passes them to paho unchanged. So paho's reading goroutine is the only reader. All writers share
// one buffer. The buffer is flushed when no more writers wait, and each flush has a deadline.
package link
