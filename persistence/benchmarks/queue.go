package benchmarks

// queue is what is compared: a queue of messages that outlives the process.
type queue interface {
	// Append puts a packet at the end, and returns once it is as durable as the
	// contestant offers. Called by many goroutines at once; the packet is the
	// queue's until Append returns.
	Append(packet []byte) error
	// Take hands up to n messages from the front to visit, in their order, and
	// takes them off. A crash before the next Flush may bring them back. It
	// returns how many there were. Called by one goroutine at a time.
	Take(n int, visit func(packet []byte)) (int, error)
	// Flush returns once everything taken is off for good.
	Flush() error
	Close() error
}

// contestant is a way to have such a queue in a folder.
type contestant struct {
	name string
	open func(dir string) (queue, error)
	// groups: many appends share one fsync, each before its caller is told.
	groups bool
	// lists: taking a message off costs time in proportion to the messages there.
	// The workloads are kept small for it, or nobody would wait for their end.
	lists bool
	// unordered: messages of the same few milliseconds may change places.
	unordered bool
}

// mooring is the first, and the one that the others are compared with.
var contestants = []contestant{
	{name: "mooring", open: openMooring, groups: true},
	{name: "bbolt, Batch", open: openBoltBatch, groups: true},
	{name: "bbolt, own groups", open: openBoltGroup, groups: true},
	{name: "SQLite", open: openSQLite, groups: true},
	{name: "file queue", open: openFiles, lists: true, unordered: true},
	{name: "file queue, fsync", open: openSyncedFiles, lists: true, unordered: true},
}
