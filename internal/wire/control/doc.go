// Package control encodes and decodes the MQTT 5 packets that do not carry application messages:
// CONNECT, CONNACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT and
// AUTH.
//
// It is for brokers and fake servers, and for the raw clients that test them. The client library
// itself uses paho.golang for these packets and does not import this package.
//
// Each Parse function takes a frame from [wire.Reader] and checks all requirements of section 3 of
// the specification that concern the packet alone. The result owns its memory. A violation is a
// [*wire.Error] with the reason code for the answer.
//
// Append functions check nothing, so that a test can also write invalid packets. Strings and binary
// data must not exceed 65,535 bytes. A packet that Parse has accepted keeps its meaning when Append
// writes it.
package control
