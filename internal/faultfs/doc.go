// Package faultfs is a file system in memory that fails when told to, records
// what is done to it, and knows what a crash could leave of it at each moment.
//
// An [FS] is used like a folder on disk. [FS.SetFault] makes operations fail, or
// pretend to succeed. [FS.Trace] is the list of what was done, and [Trace.States]
// builds what the disk may hold if the power went after any of it:
//
//   - after each prefix of the operations;
//   - of the writes since a file's last sync, by sectors of 512 bytes, any subset:
//     dropped, kept, in any order;
//   - one write torn at any byte, the rest of it missing or zeros;
//   - a file's size with or without what was written behind its synced end, so
//     that zeros stand where data were to be;
//   - truncations done or not;
//   - creations, removals and renamings since the folder's last sync, any subset.
//
// After a failed sync, what was written before it may be on disk or not, for
// ever: no later sync changes that, though reading shows it (fsync on Linux).
// A failed sync of a folder may be repeated: names go through the file system's
// journal, and when that fails the file system stops.
//
// Each [State] is a file system to open what the workload used and to see whether
// its promises were kept; that is the caller's to judge. One run of a workload
// gives thousands of states, and a state can be the beginning of the next trace:
// a crash during recovery from a crash.
package faultfs
