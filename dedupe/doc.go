// Package dedupe records which messages have been handled, so that a message that arrives twice is
// handled once.
//
// A message is claimed before it is handled, and committed afterwards. If it were recorded before
// it is handled, a failed handler would lose the message.
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
// A claim has an owner and a lease, so that several processes can share a cache. If the owner dies
// or is paused, another owner takes its messages over. [Claim.Token] is a fencing token: with it, a
// database can reject the writes of an owner that has lost its claim.
//
// After a crash between the effect of the handler and Commit, the message is Fresh, so it is
// handled again. To exclude that, write the effect and the key together: implement [Cache] on the
// store that contains the effect. An example is a table of keys that is written in the same SQL
// transaction, see the example of Cache.
//
// Keys are message IDs that the publisher sets. They are unique for the publisher or globally.
// [Hash] computes a key for a message without an ID. Two equal sensor readings only differ by
// topic, publisher, and timestamp or number, so the hash must include these in addition to the
// payload.
//
// [Memory] loses its keys when the process ends. [File] keeps them. Package dedupetest tests caches
// on other storage.
package dedupe
