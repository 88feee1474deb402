// Package ackserver is the server for mooring's benchmarks. It acknowledges MQTT 5 packets and does
// nothing else. It keeps no sessions, routes nothing and checks little, so that benchmarks measure
// the client.
//
// It acknowledges what it receives. It can also flood a client with messages, as fast as the
// client's Receive Maximum and acknowledgements allow. It allocates nothing per message, and writes
// once per read instead of once per packet.
//
// Tests that need a real broker use client/mqtttest.
package ackserver
