// Package link is the connection to the server: dialing, CONNECT and CONNACK,
// the byte stream in both directions, keep alive, and connecting again.
//
// The net.Conn that paho.golang gets is a [Conn] of ours. It frames what
// arrives and hands the five data-plane packets to the session on the spot;
// all other packets reach paho untouched, after their fixed header was
// checked. paho's reading goroutine is thus the only reader there is. What is
// written by anyone goes through one buffer that is flushed when no more
// writers wait, each flush under a deadline.
package link
