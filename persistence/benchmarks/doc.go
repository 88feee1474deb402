// Package benchmarks compares the log of package persistence with other ways to
// keep messages in front of a network, on the same disk, in the same run. It is
// a module of its own, so that nothing it is compared with becomes a dependency.
//
//	go test -count=1 -v -run Floors .                  the table, and the floors
//	go test -run xx -bench 'Enqueue|Mixed' .           each at the length that -benchtime says
//	go test -run xx -bench Drain -benchtime 1x .       the file queue's whole drain: minutes
//
// # What is measured
//
// Packets of 256 bytes. Enqueue: 64 goroutines, each appending its next packet
// when the last one is durable. Drain: one goroutine takes 16,000 messages in
// their order and takes them off for good. Mixed: both at once, until everything
// has come and gone. Every message drained is checked: none missing, none out of
// place. "The disk itself" is the most that anybody can enqueue who tells each
// producer after an fsync: nothing but one write and one sync for each 64 packets.
//
// # Who is compared
//
// Each is used as well as we know how, at the same durability where it has one:
//
//	                  told after an fsync   shared by          taken off
//	mooring           yes                   all who wait       a record each; durable with the next commit
//	bbolt, Batch      yes (two)             db.Batch           deleted in one transaction for up to 32,768
//	bbolt, own groups yes (two)             all who wait       deleted with the next commit, or 32,768
//	SQLite            yes                   all who wait       deleted, as a range, with the next commit, or 32,768
//	file queue        no: none at all       -                  a removed file each, never synced
//	file queue, fsync yes (file, folder)    none: one lock     a removed file each, synced at the end
//
// mooring notes the outcome of each message by itself, in any order; those that
// delete a range would need more than is measured here for that. "All who wait"
// for a database is one goroutine that takes every waiting append into one
// transaction ([group]). SQLite writes ahead with synchronous=FULL, through
// prepared statements of 64 rows. bbolt's pages are filled to the brim and its
// list of free pages is not stored. With SQLite in C the driver would need a C
// compiler; it was a quarter faster here.
//
// autopaho's file queue keeps one file for each message and calls no fsync, so a
// power cut may take what it accepted. It tells the order by the files' times,
// which a system keeps to some milliseconds; order is not checked for it. The
// variant with fsync gets at the files from outside. Finding the oldest file
// means reading the folder, so a drain takes time with the square of the backlog:
// the test takes a few messages at each of four depths and adds up from there,
// and mixed has 300 messages for it, for others 20,000.
package benchmarks
