package fsys

import (
	"crypto/sha256"
	"encoding/binary"
)

// Host identifies the system that runs this process. 0: unknown.
type Host struct {
	Boot    uint64 // the same until the system boots
	Machine uint64 // the same as long as the hardware, or the installed system, is the same
}

// HostOf returns the host of a file system. A file system has the method Host if it
// knows its host.
func HostOf(fs FS) Host {
	if h, ok := fs.(interface{ Host() Host }); ok {
		return h.Host()
	}
	return Host{}
}

// PartitionOf returns the size in bytes of the partition that a folder is on; 0: unknown. A file system
// has the method Partition if it knows the size.
func PartitionOf(fs FS, dir string) int64 {
	if p, ok := fs.(interface{ Partition(dir string) int64 }); ok {
		return p.Partition(dir)
	}
	return 0
}

// IdentityOf returns a number that the file has from its creation to its removal, and
// that a copy of it does not have; 0: unknown. A file has the method Identity if its
// file system knows that number.
func IdentityOf(f File) uint64 {
	if i, ok := f.(interface{ Identity() uint64 }); ok {
		return i.Identity()
	}
	return 0
}

// MaxIdentity is above all numbers of a Host and of IdentityOf.
const MaxIdentity = 1 << 62

// identity returns a number for some bytes, by a hash: a machine ID must not be written
// to files that leave the machine.
func identity(kind string, b []byte) uint64 {
	sum := sha256.Sum256(append([]byte("mooring "+kind+"\x00"), b...))
	return max(binary.LittleEndian.Uint64(sum[:])%MaxIdentity, 1)
}
