// Package dedupe records which messages have been handled, so that a message
// that arrives twice has its effect once.
//
// A message is claimed before it is handled and committed afterwards. Recording it
// before it is handled would turn every failed handler into a lost message.
//
//	claim, verdict, err := cache.Begin(ctx, key, owner)
//	switch {
//	case err != nil:                    // unknown: neither handle nor acknowledge
//	case verdict == dedupe.Duplicate:   // handled before: acknowledge
//	case verdict == dedupe.InFlight:    // being handled: cache.Wait(ctx, claim), then again
//	case handle(ctx, msg) != nil:
//		cache.Abort(ctx, claim)         // the next Begin is Fresh
//	default:
//		cache.Commit(ctx, claim)        // from now on a Duplicate
//	}
//
// A claim has an owner and a lease, so that several processes can share a cache: if the
// owner dies or is paused, another takes its messages over. [Claim.Token] is a fencing
// token, by which a database refuses writes of an owner that lost its claim.
//
// After a crash between the effect of the handler and Commit, the message is Fresh
// and has its effect again. To exclude that too, write the effect and the key
// together: implement [Cache] on the store that holds the effect, for example with a
// table of keys in the same SQL transaction, as the example of Cache does.
//
// Keys are message IDs that the publisher sets, unique for each publisher or globally.
// [Hash] makes a key for a message without an ID. Two equal readings differ only by
// topic, publisher, and a timestamp or number: hash these with the payload.
//
// [Memory] forgets its keys when the process ends, [File] keeps them. Package
// dedupetest tests adapters for databases.
package dedupe
