// Package ackserver is the other end of mooring's benchmarks: an MQTT 5 server
// that acknowledges and does nothing else. It keeps no sessions, routes
// nothing and checks little, so that what a benchmark measures is the client.
//
// It acknowledges what it is sent, and it can flood a client with messages at
// the rate that the client's Receive Maximum and acknowledgements allow. It
// allocates nothing per message, and writes once per read rather than once per
// packet.
//
// Tests that need a real broker use client/mqtttest.
package ackserver
