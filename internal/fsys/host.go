package fsys

import (
	"crypto/sha256"
	"encoding/binary"
)

// Host identifies the system on which this process runs. 0 means unknown.
type Host struct {
	Boot    uint64 // changes when the system boots
	Machine uint64 // changes with the hardware or with the installed system
}

// HostOf returns the host of a file system. A file system that knows its host has a method Host.
func HostOf(fs FS) Host {
	if h, ok := fs.(interface{ Host() Host }); ok {
		return h.Host()
	}
	return Host{}
}

// PartitionOf returns the size in bytes of the partition that contains a folder, or 0 if unknown. A
// file system that knows the size has a method Partition.
func PartitionOf(fs FS, dir string) int64 {
	if p, ok := fs.(interface{ Partition(dir string) int64 }); ok {
		return p.Partition(dir)
	}
	return 0
}

// IdentityOf returns a number that identifies a file from its creation to its removal, or 0 if
// unknown. A copy of the file has another number. A file whose file system knows the number has a
// method Identity.
func IdentityOf(f File) uint64 {
	if i, ok := f.(interface{ Identity() uint64 }); ok {
		return i.Identity()
	}
	return 0
}

// MaxIdentity is greater than every number of a Host and every result of IdentityOf.
const MaxIdentity = 1 << 62

// identity returns a hash of b. The identities are hashes because a machine ID must not be written
// to files that may leave the machine.
func identity(kind string, b []byte) uint64 {
	sum := sha256.Sum256(append([]byte("mooring "+kind+"\x00"), b...))
	return max(binary.LittleEndian.Uint64(sum[:])%MaxIdentity, 1)
}
