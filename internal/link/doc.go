// Package link is the connection to the server: dialing, CONNECT and CONNACK, the byte stream in
// both directions, keep alive, and what follows the end of a connection.
//
// A [Link] keeps one connection. Each is an [Up], whose pointer is its identity. The
// [Policy] decides what follows its end, and the [Identity] whose session it resumes.
//
// paho.golang gets a [Conn] as its net.Conn. The Conn splits what arrives into packets and passes
// PUBLISH and its acknowledgements to the session at once. All other packets reach paho unchanged,
// after a check. So paho's reading goroutine is the only reader. All writers share one buffer,
// which is flushed when no more of them wait, each flush under a deadline.
package link
