// Package interop contains only tests. They check the guarantees of package client with other
// brokers and other clients.
//
// Each test runs on each available broker: mqtttest, always; mosquitto, if it is on PATH; and the
// broker in MQTT_TEST_BROKER, for example mqtt://user:password@localhost:1883. The tests use topics
// and client identifiers that no other run uses. They leave neither sessions nor retained messages.
// With MOORING_REQUIRE_MOSQUITTO=1, a missing mosquitto is a failure instead of a skip.
//
// In TestMatrix, mooring's client, MQTT.js and paho-python publish to each other through mqtttest
// and mosquitto. With -update-docs the test writes docs/interop.md. A client that is not installed
// is skipped. With MOORING_REQUIRE_PEERS=1 it is a failure.
//
// If a broker does not conform to MQTT 5, its traits list the difference. The test then logs the
// difference and checks what mooring guarantees nevertheless.
package interop
