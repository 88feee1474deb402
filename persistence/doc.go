// Package persistence keeps the messages that were accepted and not finally
// acknowledged, in their order, and the state of the MQTT session. It is one log: a
// message is written once, and every later step is a few bytes.
//
// [Open] returns a [Log] in a folder, [NewMemory] one in memory. Both are a [Store]:
//
//	seq, err := persistence.Append(store, &persistence.Message{ID: id, Packet: wire}) // durable when err is nil
//	var c persistence.Cursor
//	for { // drain, the urgent first, each priority in its order
//		ok, err := store.Next(&c, &e)
//		…
//		c.Pass(&e)
//	}
//	store.Done(seq, persistence.Outcome{Kind: persistence.Acked}) // off the outbox
//
// [Limits] bound the messages, bytes, age and disk space, and Limits.WhenFull says what
// is dropped. A newer message may replace an older one with the same key. Messages that
// no server accepts can be kept as dead letters, and [Receipts] return the result of a
// message by its ID. Package inspect reads a folder without changing it.
//
// # What holds
//
//   - What Append accepted is returned by Next until Done is called for it,
//     through process kills and, under [SyncEveryCommit], power cuts.
//   - Sequences are dense and never used again, so anything derived from them
//     (a packet identifier) survives a restart without being stored.
//   - Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending, always.
//   - A write that a crash cut short is cut off and forgotten; it was never
//     accepted. Damage anywhere else is reported, a copy is kept, and everything
//     around it is used.
//
// docs/format.md describes the files and argues why each crash is survived.
package persistence
