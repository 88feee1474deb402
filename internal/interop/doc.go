// Package interop holds tests only: the promises of package client, kept on
// other people's brokers and towards other people's clients.
//
// Each test runs on each broker there is: mqtttest, always; mosquitto, if it is
// on PATH; and the broker that MQTT_TEST_BROKER names, such as
// mqtt://user:password@localhost:1883. The tests use topics and client
// identifiers that no other run uses, and leave neither sessions nor retained
// messages behind. With MOORING_REQUIRE_MOSQUITTO=1 a missing mosquitto is a
// failure and not a skip.
//
// TestMatrix has mooring's client, MQTT.js and paho-python publish to each other
// through mqtttest and mosquitto, and writes docs/interop.md with -update-docs.
// A client that is not installed is skipped, or a failure with
// MOORING_REQUIRE_PEERS=1.
//
// Where a broker does not do what MQTT 5 asks, its traits say so, the test logs
// it, and asserts what mooring promises nevertheless.
package interop
