// Package dedupe records which messages have been handled. A message that arrives twice is then
// handled only once.
//
// The application claims the key of a message before the handler runs, and commits the key
// afterwards. If the key were recorded before the handler runs, a failed handler would lose the
// message.
//
//	claim, verdict, err := cache.Begin(ctx, key, owner)
//	switch {
//	case err != nil:                    // unknown: neither handle nor acknowledge
//	case verdict == dedupe.Duplicate:   // handled before: acknowledge
//	case verdict == dedupe.InFlight:    // being handled: cache.Wait(ctx, claim), then Begin again
//	case handle(ctx, msg) != nil:
//		cache.Abort(ctx, claim)         // the next Begin is Fresh
//	default:
//		cache.Commit(ctx, claim)        // from now on a Duplicate
//	}
//
// A claim has an owner and a lease, so that several processes can share a cache. If the owner
// crashes or is paused, the lease ends, and another owner can take the key over. [Claim.Token] is a
// fencing token. It lets a database reject the writes of an owner that has lost its claim.
//
// If the process crashes after the handler had its effect and before Commit, the message is handled
// again. To prevent that, write the effect and the key in one transaction. To do so, implement
// [Cache] on the database that stores the effect. The example of Cache shows this with a table of
// keys in SQL.
//
// A key is usually the message ID that the publisher sets. The key must be unique for each
// publisher, or globally. [Hash] computes a key for a message without an ID. The payload alone is
// not enough, because two sensor readings can be equal. The hash must also include the topic, the
// publisher, and a timestamp or sequence number.
//
// [Memory] loses its keys when the process ends. [File] keeps them. Package dedupetest tests your
// own implementations of Cache.
package dedupe
