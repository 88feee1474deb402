// Package ordering keeps the messages of each key in order. A key identifies the stream of one
// publisher on one topic.
//
// MQTT keeps the order of the messages of one client on one topic, unless messages are resent or
// handled by parallel workers ([MQTT-4.6.0-1] to [MQTT-4.6.0-6]). With a number on each message,
// the receiver can restore the order and detect gaps. With an ID on each message, it can recognize
// copies.
//
//	r := ordering.NewResequencer[string](ordering.Options{OnGap: func(g ordering.Gap) {
//		log.Println("messages", g.From, "to", g.To, "are missing:", g.Reason)
//	}})
//	handle := func(text string, outOfOrder bool) { … }
//	r.Push("sensor/1", epoch, 1, id1, "first", handle)  // handles "first"
//	r.Push("sensor/1", epoch, 3, id3, "third", handle)  // held, because 2 is missing
//	r.Push("sensor/1", epoch, 2, id2, "second", handle) // handles "second" and "third"
//	next := r.Expire(handle)                            // gives up old gaps; call it again at next
//
// A publisher numbers the messages of each key 1, 2, 3 and so on, without gaps. The client of this
// module does so with Config.Publishing.Sequenced. [Resequencer] restores the order and reports
// each gap once. [Envelope] carries number, time and ID inside the payload, for peers that cannot
// set MQTT 5 user properties.
//
// Numbers determine the order, and IDs identify messages: a known number with a new ID is a new
// message. If the counter of a publisher restarts, or a device is cloned or restored from a copy,
// the order is lost, but no message is.
//
// An epoch identifies the state of a publisher. A publisher that has lost its numbers starts from 1
// in a higher epoch. The order of its messages can then be restored.
package ordering
