// Package control encodes and decodes the MQTT 5 packets that do not carry
// application messages: CONNECT, CONNACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE,
// UNSUBACK, PINGREQ, PINGRESP, DISCONNECT and AUTH.
//
// It is for brokers and fake servers, and for the raw clients that test them.
// The SDK itself leaves these packets to paho.golang and does not import this
// package.
//
// Each Parse function takes a frame that [wire.Reader] has cut, checks all
// that section 3 of the specification asks of the packet on its own, and
// returns a value that owns its memory. A violation is a [*wire.Error] with
// the reason code to answer with. Each Append function writes what it is
// given and checks nothing, so that a test can also say what is wrong; strings
// and binary data must not exceed 65,535 bytes. What Parse accepted, Append
// writes back with the same meaning.
package control
