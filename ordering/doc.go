// Package ordering keeps the messages of each key in order. A key is one
// publisher's stream of one topic.
//
// MQTT keeps the order of messages of one client on one topic, unless messages are
// resent or pass parallel workers ([MQTT-4.6.0-1] to [MQTT-4.6.0-6]). By a number on
// each message, the receiver restores the order, drops duplicates, and detects gaps.
//
// A publisher numbers the messages of each key 1, 2, 3 and so on, without gaps: a
// client does so with Config.Publishing.Sequenced. [Resequencer] restores the order
// and reports each gap once. [Envelope] carries number, time and ID inside the
// payload, for peers that cannot set MQTT 5 user properties.
//
// An epoch identifies the state of a publisher. A publisher that has lost its numbers
// starts from 1 in a higher epoch, so that its messages are no duplicates.
package ordering
