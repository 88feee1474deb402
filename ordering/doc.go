// Package ordering keeps the messages of each key in order. A key is one
// publisher's stream of one topic.
//
// MQTT keeps the order of messages of one client on one topic, unless messages are
// resent or pass parallel workers ([MQTT-4.6.0-1] to [MQTT-4.6.0-6]). By a number on
// each message, the receiver restores the order and detects gaps. By an ID on each
// message, it recognizes copies.
//
// A publisher numbers the messages of each key 1, 2, 3 and so on, without gaps: a
// client does so with Config.Publishing.Sequenced. [Resequencer] restores the order
// and reports each gap once. [Envelope] carries number, time and ID inside the
// payload, for peers that cannot set MQTT 5 user properties.
//
// Numbers order, IDs identify: a known number with a new ID is a new message. A publisher
// whose counter starts again, a restored copy and a cloned device lose their order, and no
// message.
//
// An epoch identifies the state of a publisher. A publisher that has lost its numbers
// starts from 1 in a higher epoch, so that the order of its messages is restored.
package ordering
