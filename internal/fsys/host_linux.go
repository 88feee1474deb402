package fsys

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// Host returns the host as /proc and /etc describe it.
func (osFS) Host() Host { return hostOnce() }

var hostOnce = sync.OnceValue(func() Host { return readHost("/") })

// readHost reads the files that describe a host, below a root.
func readHost(root string) (h Host) {
	if id, err := os.ReadFile(root + "proc/sys/kernel/random/boot_id"); err == nil && len(bytes.TrimSpace(id)) > 0 {
		h.Boot = identity("boot", bytes.TrimSpace(id))
	}
	if serial := serialNumber(root); serial != "" {
		h.Machine = identity("serial", []byte(serial))
	} else if id := machineID(root); id != "" {
		h.Machine = identity("machine", []byte(id))
	}
	return h
}

// serialNumber returns the serial number of a board with a device tree, or "". Unlike
// /etc/machine-id, it survives the installation of another system. On some boards the number was
// never set; then all digits are the same, or it begins with 0123456789.
func serialNumber(root string) string {
	b, _ := os.ReadFile(root + "proc/device-tree/serial-number")
	s := strings.Trim(string(b), "\x00 \n")
	if len(s) < 8 || strings.Count(s, s[:1]) == len(s) || strings.HasPrefix(s, "0123456789") {
		return ""
	}
	return s
}

// machineID returns the content of /etc/machine-id if it is on a disk, or "". On a temporary file
// system, the ID changes with each boot. In a container, it is the ID of the image.
func machineID(root string) string {
	f, err := os.Open(root + "etc/machine-id")
	if err != nil {
		return ""
	}
	defer f.Close()
	if kind, ok := fileSystem(f); !ok || kind == overlayFS || kind == tmpFS || !keepsIdentity[kind] {
		return ""
	}
	b := make([]byte, 64)
	n, _ := f.Read(b)
	id := string(bytes.TrimSpace(b[:n]))
	if _, err := hex.DecodeString(id); err != nil || len(id) != 32 { // "uninitialized"
		return ""
	}
	return id
}

// Values of f_type, see statfs(2).
const (
	overlayFS = 0x794c7630
	tmpFS     = 0x01021994
)

// keepsIdentity lists the file systems on which a file keeps its inode number and birth time as
// long as it exists, even when the file system is mounted again. FAT, FUSE and network file systems
// assign inode numbers as needed.
var keepsIdentity = map[uint32]bool{
	0xef53:     true, // ext4
	0x58465342: true, // XFS
	0x9123683e: true, // Btrfs
	0xf2f52010: true, // F2FS
	0xca451a4e: true, // bcachefs
	0x2fc12fc1: true, // ZFS
	overlayFS:  true, // for files that were created in it: those of its upper layer
	tmpFS:      true,
}

func fileSystem(f *os.File) (kind uint32, ok bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, false
	}
	var st syscall.Statfs_t
	err = raw.Control(func(fd uintptr) { ok = syscall.Fstatfs(int(fd), &st) == nil })
	return uint32(st.Type), ok && err == nil
}

// statxNumber is the number of the system call statx, which package syscall does not have.
var statxNumber = map[string]uintptr{
	"amd64": 332, "386": 383, "arm": 397, "arm64": 291, "riscv64": 291, "loong64": 291,
	"ppc64": 383, "ppc64le": 383, "s390x": 379, "mips": 4366, "mipsle": 4366, "mips64": 5326, "mips64le": 5326,
}[runtime.GOARCH]

// Identity returns a hash of the inode number and the birth time, which no program can set. The
// inode number alone does not suffice, because it is soon reused after a removal. Identity returns
// 0 if the file system does not record the birth time.
func (f osFile) Identity() uint64 {
	if kind, ok := fileSystem(f.File); !ok || !keepsIdentity[kind] || statxNumber == 0 {
		return 0
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	const (
		emptyPath   = 0x1000 // AT_EMPTY_PATH: the file itself
		inode       = 0x100  // STATX_INO
		birthTime   = 0x800  // STATX_BTIME
		offsetInode = 32     // of struct statx
		offsetBirth = 80     // seconds, 8 bytes, and nanoseconds, 4
	)
	var path [1]byte
	var st [256]byte
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(statxNumber, fd, uintptr(unsafe.Pointer(&path)), emptyPath, inode|birthTime, uintptr(unsafe.Pointer(&st)), 0)
	})
	if mask := binary.NativeEndian.Uint32(st[:]); err != nil || errno != 0 || mask&(inode|birthTime) != inode|birthTime {
		return 0
	}
	return identity("file", append(st[offsetInode:offsetInode+8:offsetInode+8], st[offsetBirth:offsetBirth+12]...))
}
