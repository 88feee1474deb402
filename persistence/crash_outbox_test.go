package persistence

// Workloads for priorities and their numbers, sent watermarks, dead letters, drops, receipts, and
// the moving of messages.

var (
	fewDeadLetters = with(small, func(o *Options) { o.Retention.MaxDeadLetters = 3 })
	crowded        = with(small, func(o *Options) { o.Limits.MaxMessages, o.Limits.WhenFull = 5, DropOldest })
	// conflating has room for all messages, so the only drops are those by key.
	conflating  = with(small, func(o *Options) { o.Limits.WhenFull = DropOldest })
	recording   = with(small, func(o *Options) { o.Retention.MaxReceipts = 1000 })
	forgetful   = with(small, func(o *Options) { o.Retention.MaxReceipts = 6 })
	undertaking = with(small, func(o *Options) { o.Retention.MaxReceipts, o.Retention.MaxDeadLetters = 1000, 3 })
)

var outboxWorkloads = []crashWorkload{
	{name: "priorities", o: small, run: mix{append: 8, done: 6, release: 1, sync: 1, restart: 1, ranked: true}.steps(40)},
	{name: "priorities, larger", o: small, run: mix{append: 8, done: 6, sync: 1, restart: 1, kill: 1, ranked: true, large: true}.steps(40)},
	{name: "sent", o: small, run: mix{append: 6, done: 2, raise: 6, lower: 2, reset: 1, sync: 1, restart: 1, kill: 1, ranked: true}.steps(40)},
	{name: "sent, interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 6, done: 2, raise: 4, lower: 2, reset: 1, sync: 1, restart: 1, ranked: true}.steps(40)},
	{name: "releases", o: small, run: mix{append: 8, done: 4, release: 8, reset: 1, sync: 1, restart: 1, kill: 1, ranked: true}.steps(60)},
	{name: "deferrals", o: small, run: mix{append: 5, postpone: 8, release: 2, done: 2, sync: 3, reset: 1, restart: 1, kill: 1, ranked: true}.steps(50)},
	{name: "deferrals, interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 5, postpone: 6, release: 1, done: 2, raise: 1, sync: 2, reset: 1, restart: 1, ranked: true}.steps(40)},
	{name: "compaction of the deferred", o: undertaking, run: mix{append: 12, done: 20, dead: 1, postpone: 8, release: 2, raise: 1, sync: 3, reset: 1, restart: 1, kill: 1, large: true, ranked: true, stuck: 5}.steps(130), moves: true},
	{name: "deferrals on a failing disk", o: fewDeadLetters, run: mix{append: 10, done: 14, dead: 1, postpone: 6, release: 1, sync: 3, large: true, ranked: true, stuck: 2}.failing(3, 30)},
	{name: "dead letters", o: fewDeadLetters, run: mix{append: 6, done: 1, dead: 5, discard: 2, sync: 1, restart: 1, kill: 1, ranked: true}.steps(40)},
	{name: "drops", o: crowded, run: mix{append: 12, done: 1, release: 1, raise: 2, lower: 1, sync: 1, reset: 1, restart: 1, ranked: true}.steps(40)},
	{name: "conflation", o: conflating, run: mix{append: 10, done: 2, raise: 2, sync: 1, reset: 1, restart: 1, conflate: true, ranked: true}.steps(40)},
	{name: "conflation and drops", o: crowded, run: mix{append: 12, done: 1, release: 1, raise: 1, restart: 1, conflate: true}.steps(40)},
	{name: "receipts", o: recording, run: mix{append: 6, done: 6, sync: 1, restart: 1, kill: 1, large: true}.steps(30)},
	{name: "few receipts", o: forgetful, run: mix{append: 6, done: 6, sync: 1, restart: 1, large: true}.steps(50)},
	{name: "receipts of dead letters", o: undertaking, run: mix{append: 6, done: 2, dead: 4, discard: 1, sync: 1, restart: 1, kill: 1, large: true, ranked: true}.steps(40)},
	{name: "clock", o: small, run: mix{append: 4, done: 3, clock: 3, restart: 4, kill: 1}.steps(25)},
	{name: "compaction", o: small, run: mix{append: 10, done: 20, release: 1, sync: 2, large: true, stuck: 1}.steps(100), moves: true},
	{name: "compaction of all kinds", o: fewDeadLetters, run: mix{append: 12, done: 20, dead: 2, discard: 1, release: 1, raise: 1, sync: 2, restart: 1, kill: 1, large: true, ranked: true, stuck: 3}.steps(100), moves: true},
	{name: "compaction of the released", o: small, run: mix{append: 12, done: 22, release: 6, raise: 1, lower: 1, sync: 2, restart: 1, large: true, ranked: true, stuck: 4}.steps(130), moves: true},
	{name: "compaction with receipts", o: undertaking, run: mix{append: 10, done: 20, dead: 2, release: 1, sync: 2, restart: 1, large: true, ranked: true, stuck: 2}.steps(90), moves: true},
	{name: "compaction, interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 10, done: 20, release: 1, sync: 1, restart: 1, large: true, stuck: 2, ranked: true}.steps(100), moves: true},
	{name: "compaction, few receipts", o: forgetful, run: mix{append: 10, done: 20, sync: 2, restart: 1, large: true, stuck: 2}.steps(90), moves: true},
	{name: "compaction on a failing disk", o: fewDeadLetters, run: mix{append: 10, done: 20, dead: 2, release: 1, sync: 2, large: true, ranked: true, stuck: 2}.failing(3, 30)},
	{name: "receipts on a failing disk", o: recording, run: mix{append: 10, done: 12, dead: 1, sync: 2, large: true, stuck: 1}.failing(3, 20)},
}
