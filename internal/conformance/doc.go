// Package conformance is tests only: one for each normative statement of MQTT 5
// that binds a client, named after it (TestMQTT_3_3_1_2 is [MQTT-3.3.1-2]), in
// files by chapter. The client is used through its public API; the other end is
// internal/fakebroker, which says and hears bytes. docs/conformance.md is the
// table of all of them, and table_test.go keeps it true.
package conformance
