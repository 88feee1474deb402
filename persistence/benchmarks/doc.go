// Package benchmarks compares the log of package persistence with other stores for messages, on the
// same disk and in the same run. It is a module of its own, so that the other stores do not become
// dependencies of this module.
//
//	go test -count=1 -v -run Floors .                  the table, and the floors
//	go test -run xx -bench 'Enqueue|Mixed' .           each for the time that -benchtime sets
//	go test -run xx -bench Drain -benchtime 1x .       includes the file queue, which takes minutes
//
// # Workloads
//
// All packets have 256 bytes. Enqueue: each of 64 goroutines appends its next packet when the last
// one is durable. Drain: one goroutine reads 16,000 messages in order and removes them durably.
// Mixed: both at once, until all messages were appended and removed. Each drained message is
// checked; none may be missing or out of order. "The disk itself" is the upper bound for enqueue
// with an fsync before each return: one write and one sync for each 64 packets, and nothing else.
//
// # Stores
//
// Each store is used in the fastest way known to the authors, with the same durability if possible:
//
//	                  fsync before return   shared by          removal
//	mooring           yes                   all waiting        a record each; durable with the next commit
//	bbolt, Batch      yes (two)             db.Batch           one transaction for up to 32,768 messages
//	bbolt, own groups yes (two)             all waiting        with the next commit, or after 32,768
//	SQLite            yes                   all waiting        a range, with the next commit, or after 32,768
//	file queue        no fsync              -                  a removed file each, never synced
//	file queue, fsync yes (file, folder)    nobody: one lock   a removed file each, synced at the end
//
// mooring records the result of each message separately and in any order. The other stores delete
// ranges of messages. To record results separately, they would need more time than is measured
// here. For the databases, "all waiting" means that one goroutine commits all waiting appends in
// one transaction, see group. SQLite uses a write-ahead log with synchronous=FULL and prepared
// statements of 64 rows. In bbolt, pages are filled completely and the list of free pages is not
// stored. The SQLite driver in C was a quarter faster here, but it needs a C compiler.
//
// The file queue of autopaho keeps one file for each message and calls no fsync, so a power failure
// may lose accepted messages. It derives the order from file times, which have a resolution of some
// milliseconds, so the order is not checked for it. In the variant with fsync, the benchmark syncs
// the files from outside. To find the oldest file, the queue reads the whole folder, so the time of
// a drain grows with the square of the backlog. The test therefore measures a few messages at each
// of four depths and extrapolates. For the same reason, mixed uses 300 messages for the file queue,
// and 20,000 for the other stores.
package benchmarks
