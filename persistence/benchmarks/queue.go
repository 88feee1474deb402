package benchmarks

// queue is a queue of messages that survives the process. It is what the benchmarks compare.
type queue interface {
	// Append adds a packet at the end. It returns when the packet is as durable as the store
	// allows. It is called concurrently. The packet must not change until Append returns.
	Append(packet []byte) error
	// Take passes up to n messages from the front to visit, in order, and removes them. After a
	// crash before the next Flush, they may be in the queue again. It returns their number. It is
	// not called concurrently.
	Take(n int, visit func(packet []byte)) (int, error)
	// Flush returns when all taken messages are durably removed.
	Flush() error
	Close() error
}

// contestant is an implementation of queue.
type contestant struct {
	name string
	open func(dir string) (queue, error)
	// groups means that concurrent appends share one fsync, which is done before they return.
	groups bool
	// lists means that the cost of removing a message grows with the number of messages. The
	// workloads are smaller for such a store.
	lists bool
	// unordered means that messages of the same few milliseconds may be out of order.
	unordered bool
}

// The first contestant is mooring. The others are compared with it.
var contestants = []contestant{
	{name: "mooring", open: openMooring, groups: true},
	{name: "bbolt, Batch", open: openBoltBatch, groups: true},
	{name: "bbolt, own groups", open: openBoltGroup, groups: true},
	{name: "SQLite", open: openSQLite, groups: true},
	{name: "file queue", open: openFiles, lists: true, unordered: true},
	{name: "file queue, fsync", open: openSyncedFiles, lists: true, unordered: true},
}
