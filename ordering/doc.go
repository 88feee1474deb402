// Package ordering restores the order of messages. It keeps the messages of each key in order. A
// key identifies the messages of one publisher on one topic, which are called a stream.
//
// MQTT keeps the order of the messages of one client on one topic ([MQTT-4.6.0-1] to
// [MQTT-4.6.0-6]). The order can be lost if a message is resent, or if parallel workers handle
// messages. If each message has a number, the receiver can restore the order and detect gaps. If
// each message has an ID, the receiver can detect duplicates.
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
// A publisher numbers the messages of each key without gaps, and normally begins at 1. The client
// of this module does so with Config.Publishing.Sequenced. [Resequencer] restores the order and
// reports each gap once. [Envelope] carries the number, the time and the ID inside the payload. It
// is for publishers and receivers that cannot use MQTT 5 user properties.
//
// Numbers determine the order, and IDs identify messages. A message with a known number and a new
// ID is therefore a new message. Numbers can repeat if the counter of a publisher restarts, or if a
// device is cloned or restored from a copy. The order is then lost, but no message is lost.
//
// An epoch is a number that identifies one series of a publisher's numbers. A publisher that may
// have lost numbers begins a higher epoch. If it has lost all numbers, it begins the new epoch at 1.
// If it still knows some numbers, it may continue them in the new epoch, as the client of this
// module does. In both cases, the receiver can restore the order of the new messages.
package ordering
