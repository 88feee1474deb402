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
// [Limits] bounds the number of messages, their size, their age and the disk space. Limits.WhenFull
// selects what happens at a limit. A newer message can replace an older message with the same key.
// A message that no server accepts can be kept as a dead letter. [Receipts] finds the result of a
// message by its ID. Package inspect reads the folder of a log without changing it.
//
// # Guarantees
//
//   - An accepted message stays in the log until Done is called for it. If the process is killed
//     before that, the next opening finds the message again, and Next returns it. With
//     [SyncEveryCommit], this is also true after a power failure.
//   - Sequences have no gaps and are not reused within an epoch. A packet identifier that is
//     computed from a sequence therefore stays the same after a restart. It need not be stored.
//   - Accepted = Acked + Refused + Expired + Dropped + DeadLettered + Pending, at any moment.
//   - If a crash interrupted a write, the next opening removes this write. Its messages had not
//     been accepted. The log reports any other damage, keeps a copy of the damaged file, and uses
//     all undamaged data.
//
// docs/format.md describes the files, and explains why the log survives each kind of crash.
package persistence
