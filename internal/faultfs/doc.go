// Package faultfs is a file system in memory for tests. It injects faults, records the operations
// on it, and computes every content that a crash could leave on the disk.
//
// An [FS] is used like a folder on disk. [FS.SetFault] makes operations fail, or report success
// without an effect. [FS.Trace] returns the recorded operations. [Trace.States] builds the possible
// contents of the disk after a power failure:
//
//   - after each prefix of the operations;
//   - with any subset of the writes since the last sync of a file, in sectors of 512 bytes;
//   - with one write torn at any byte, and the rest of the write missing or zeros;
//   - with the size of a file including or excluding the unsynced bytes at its end; bytes that are
//     included but were not written are zeros;
//   - with or without each unsynced truncation;
//   - with any subset of the creations, removals and renamings since the last sync of the folder.
//
// After a failed sync, it is permanently unknown whether earlier writes are on the disk. A later
// sync does not change that, although a read returns the data. fsync on Linux behaves like this.
// The sync of a folder may be repeated after a failure: names are part of the journal of the file
// system, and a file system stops when its journal fails.
//
// A [State] is a file system after a crash. The caller opens it with the code under test, and
// checks whether the code keeps its guarantees. One run of a workload produces thousands of states.
// A state can be the start of another trace, to test a crash during recovery from a crash.
package faultfs
