// Package ordering keeps messages in order per key, where a key is one
// publisher's stream of one topic.
//
// MQTT itself keeps the order of messages of one client to one topic only, and
// only while nothing is sent again and nothing stands between publisher and
// subscriber that works in parallel ([MQTT-4.6.0-1] to [MQTT-4.6.0-6]). With a
// number on each message the receiver can do better: put them in order again,
// drop what comes twice, and know what is missing.
//
// [Sequencer] gives out the numbers: per key 1, 2, 3 and so on without a hole,
// and serially, so that for one key the next message is not handed over before
// the last one was. [Resequencer] restores the order on the other side and
// reports each gap once. [Envelope] carries number, time and ID inside the
// payload, for peers that cannot set MQTT 5 user properties.
//
// An epoch counts the lives of a publisher: one that lost its numbers starts
// over from 1 in a higher epoch, and receivers know that it is no repetition.
package ordering
