package faultfs

import (
	"errors"
	"fmt"
)

// Op is an operation on the file system. A [Trace] contains the operations that change something.
// Open and Read operations are only passed to [Fault].
type Op struct {
	Kind  Kind
	Name  string // path; for SyncDir: of the folder
	To    string // Rename: the new path
	Off   int64  // Write, Read: the offset; Truncate: the size
	Data  []byte // Write: the data
	Len   int    // Write, Read: the requested number of bytes
	Index int    // position in the trace
	Err   error  // returned to the caller

	file int
}

// Kind is the kind of an operation.
type Kind uint8

// The kinds of operations.
const (
	Create Kind = iota
	Write
	Truncate
	Sync
	Remove
	Rename
	SyncDir
	Open
	Read
)

// String returns the name of the kind.
func (k Kind) String() string {
	return [...]string{"create", "write", "truncate", "sync", "remove", "rename", "syncdir", "open", "read"}[k]
}

// String describes the operation in a line.
func (o Op) String() string {
	s := fmt.Sprintf("%d %s %s", o.Index, o.Kind, o.Name)
	switch o.Kind {
	case Write:
		s += fmt.Sprintf(" [%d,+%d)", o.Off, len(o.Data))
	case Truncate:
		s += fmt.Sprintf(" to %d", o.Off)
	case Rename:
		s += " to " + o.To
	}
	if o.Err != nil {
		s += ": " + o.Err.Error()
	}
	return s
}

// Fault is called before each operation. If it returns an error, the operation fails. The first n
// bytes of a Write are written even then. If n is less than Op.Len and the error is nil, the write
// is short. If the error is [ErrSkip], the operation does nothing and reports success. Fault is
// called with the file system locked, so it must not use the file system.
type Fault func(op Op) (n int, err error)

// ErrSkip makes an operation do nothing and report success.
var ErrSkip = errors.New("faultfs: skip the operation and report success")
