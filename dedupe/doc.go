// Package dedupe remembers which messages have been handled, so that a message
// that arrives twice has its effect once.
//
// A cache has three verbs, because a key must never be marked before its
// message was handled: a mark set first turns every failed handler into a lost
// message.
//
//	switch v, err := cache.Begin(key); {
//	case err != nil:                // not recorded: do not handle, do not ack
//	case v == dedupe.Duplicate:     // handled before: ack, do not handle
//	case v == dedupe.InFlight:      // being handled right now: do not ack yet
//	case handle(msg) != nil:
//		cache.Abort(key)            // the next Begin is Fresh again
//	default:
//		cache.Commit(key)           // from now on a Duplicate
//	}
//
// What remains is the crash between the handler's effect and the Commit. After
// a restart the message is Fresh and the effect happens again. Where that must
// not be, the effect and the key have to be one write: implement [Cache] on the
// store that holds the effect (a table of keys in the same SQL transaction, a
// key in the same append to a file) and let Commit do nothing. The example of
// Cache shows one.
//
// Keys are message IDs that the publisher sets, unique per publisher or for
// good; a message without one can be known by [Hash] of what makes it the same
// message. A hash of the payload alone calls two equal readings duplicates, so
// put topic, publisher and a timestamp or sequence number into it where there
// are any.
//
// [Memory] forgets at the end of the process, [File] does not. Adapters for
// databases implement [Cache] and prove it with package dedupetest.
package dedupe
