package faultfs

import (
	"errors"
	"fmt"
)

// Op is one operation on the file system. Those that change something make up a
// [Trace]; Open and Read are shown to [Fault] only.
type Op struct {
	Kind  Kind
	Name  string // the path; of SyncDir the folder's
	To    string // the new path, of Rename
	Off   int64  // where, of Write and Read; the size, of Truncate
	Data  []byte // of Write
	Len   int    // of Write and Read: how many bytes were asked for
	Index int    // its place in the trace: how many came before
	Err   error  // what the program was told

	file int
}

// Kind says what an operation does.
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

// String returns the kind's name.
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

// Fault is asked before each operation. With an error the operation fails; of a
// Write, the first n bytes are written nevertheless, and n below Op.Len without
// an error is a short write. With [ErrSkip] the operation does nothing and reports
// success. It is called with the file system locked and must not use it.
type Fault func(op Op) (n int, err error)

// ErrSkip makes an operation a lie: it reports success and does nothing.
var ErrSkip = errors.New("faultfs: skip the operation and report success")
