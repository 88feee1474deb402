// Package persistence stores messages until the server has acknowledged them, together with the
// state of the MQTT session.
//
// [Open] returns a [Log], which keeps its data in a folder. [NewMemory] returns a [Memory], which
// keeps its data in memory. Both implement [Store]:
//
//	// The message is durable if err is nil.
//	seq, err := persistence.Append(store, &persistence.Message{ID: id, Packet: wire})
//	var c persistence.Cursor
//	for { // highest priority first, and in order within a priority
//		ok, err := store.Next(&c, &e)
//		…
//		c.Pass(&e)
//	}
//	store.Done(seq, persistence.Result{Kind: persistence.Acked}) // no longer pending
//
// [Limits] bound the number of messages, their bytes, their age and the disk space. Limits.WhenFull
// selects what happens at a limit. A newer message can replace an older one with the same key. A
// message that no server accepts can be kept as a dead letter. [Receipts] finds the result of a
// message by its ID. Package inspect reads a folder without changing it.
//
// # Guarantees
//
//   - An accepted message is returned by Next until Done is called for it. This holds after the
//     process was killed and, under [SyncEveryCommit], after a power failure.
//   - Sequences have no gaps and are not reused within an epoch. A value that is derived from a sequence, such as a
//     packet identifier, therefore survives a restart without being stored.
//   - Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending, at any moment.
//   - A write that a crash interrupted is removed when the log is opened. Its messages had not been
//     accepted. Any other damage is reported, a copy of the damaged file is kept, and the log uses
//     all undamaged data.
//
// docs/format.md describes the files, and argues why the log survives each kind of crash.
package persistence
