package persistence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// FormatVersion is the version of the files that are written, and the newest that is read.
const FormatVersion = record.FormatVersion

// Errors of a store, for errors.Is. [FailedError], [FullError], [LockedError] and
// [PacketTooLargeError] have details. The log is degraded when a write or an fsync failed, and the second
// attempt in a new file too, until one succeeds. It has failed if Close could not write what was left.
var (
	ErrClosed            = errors.New("persistence: the store is closed: open it again")
	ErrDegraded          = safe.New("persistence: the disk does not take what is written: free or mend the disk; the log tries again by itself")
	ErrFailed            = errors.New("persistence: the store has failed: close it, free or mend the disk, open it again")
	ErrFull              = safe.New("persistence: the store is full: wait for acknowledgements, or raise its limits")
	ErrLocked            = safe.New("persistence: the folder is in use: stop the other program, or use another folder")
	ErrPacketTooLarge    = safe.New("persistence: packet too large: split it or raise Limits.MaxPacketBytes")
	ErrUnknownStream     = safe.New("persistence: unknown stream: register its name with Stream first")
	ErrStreamName        = safe.New("persistence: a stream's name has 1 to 1,024 bytes: shorten it, for example to a hash")
	ErrUnknownSequence   = safe.New("persistence: unknown sequence: pass Entry.Seq or Ticket.Seq of this store")
	ErrUnknownResult     = safe.New("persistence: unknown result: use a constant of type ResultKind, such as Acked")
	ErrPriority          = safe.New("persistence: unknown priority: use Normal, High or Urgent")
	ErrClientID          = safe.New("persistence: a ClientID has at most 65,535 bytes")
	ErrKey               = safe.New("persistence: a key has at most 1,024 bytes: shorten it, for example to a hash")
	ErrSessionLostPolicy = safe.New("persistence: unknown policy for a lost session: use AsConfigured, Republish or FailInFlight")
	ErrDeferral          = safe.New("persistence: invalid deferral: set Since, and Attempts from 0 to 4,294,967,295")
	ErrPacketID          = safe.New("persistence: 0 is not a packet identifier: answer the packet as malformed") // [MQTT-2.2.1-3]
)

// FullError says which limit is reached. It is an [ErrFull].
type FullError struct {
	Limit string // the option's name
	Max   int64  // its value
}

func (e *FullError) Error() string {
	switch e.Limit {
	case "MaxStreams":
		return fmt.Sprintf("persistence: the store is full: Limits.MaxStreams = %d names are registered: use fewer names or raise the option", e.Max)
	case "MaxDiskBytes":
		return fmt.Sprintf("persistence: the store is full: the segments have reached Limits.MaxDiskBytes = %d: end the oldest messages, which keep their segments, or raise the option", e.Max)
	}
	return fmt.Sprintf("persistence: the store is full: Limits.%s = %d reached: wait for acknowledgements, end messages with Done, or raise the option", e.Limit, e.Max)
}

func (e *FullError) Is(target error) bool { return target == ErrFull }
func (*FullError) SafeToRetry() bool      { return true } // nothing was stored

// PacketTooLargeError says that a packet exceeds a limit. It is an [ErrPacketTooLarge].
type PacketTooLargeError struct {
	Size, Max int64  // in bytes
	Limit     string // the option's name
}

func (e *PacketTooLargeError) Error() string {
	if e.Limit == "MaxDiskBytes" {
		return fmt.Sprintf("persistence: packet of %d bytes is larger than half of what Limits.MaxDiskBytes leaves to its priority, %d: split it or raise the option", e.Size, e.Max)
	}
	return fmt.Sprintf("persistence: packet of %d bytes is larger than Limits.%s = %d: split it or raise the option", e.Size, e.Limit, e.Max)
}

func (e *PacketTooLargeError) Is(target error) bool { return target == ErrPacketTooLarge }
func (*PacketTooLargeError) SafeToRetry() bool      { return true } // nothing was stored

// FailedError is the write or fsync that made a store fail: of a [Log], the last one, at Close. It is an
// [ErrFailed], and errors.Is finds the system's error in it.
type FailedError struct {
	Op  string // what was attempted
	Err error  // what the system answered
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("persistence: the store has failed: %s: %v: close it, free or mend the disk, open it again", e.Op, e.Err)
}

func (e *FailedError) Is(target error) bool { return target == ErrFailed }
func (e *FailedError) Unwrap() error        { return e.Err }
func (*FailedError) SafeToRetry() bool      { return false } // the next opening may find what was written

// DegradedError is the write or fsync that the disk has refused. Until it accepts one again, the log
// takes no messages and makes nothing durable. It keeps what it has, and tries again by itself. It is an
// [ErrDegraded], and errors.Is finds the system's error in it.
type DegradedError struct {
	Since time.Time // when it began
	Fix   string    // what may help
	Err   error     // what the system answered
}

func (e *DegradedError) Error() string {
	return fmt.Sprintf("persistence: the disk does not take what is written since %s: %v: %s; the log tries again by itself", e.Since.Format(time.RFC3339), e.Err, e.Fix)
}

func (e *DegradedError) Is(target error) bool { return target == ErrDegraded }
func (e *DegradedError) Unwrap() error        { return e.Err }
func (*DegradedError) SafeToRetry() bool      { return true } // nothing was stored

// StalledError says that the disk has not answered a write or an fsync for Options.WriteTimeout. From Enqueue:
// nothing was stored. From Wait: the message is stored if the disk answers after all. errors.Is finds
// [context.DeadlineExceeded] in it.
type StalledError struct{ After time.Duration }

func (e *StalledError) Error() string {
	return fmt.Sprintf("persistence: the disk has not answered a write for %v: look at the disk; the log goes on when it answers", e.After)
}

func (e *StalledError) Is(target error) bool { return target == context.DeadlineExceeded }
func (*StalledError) Timeout() bool          { return true }
func (*StalledError) SafeToRetry() bool      { return true } // nothing was stored, unless Wait returns it

// LockedError says who holds the folder. It is an [ErrLocked].
type LockedError struct {
	Dir string
	PID int // 0: unknown
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("persistence: folder %s is in use by %s: stop it, or give each program its own folder", e.Dir, holder)
}

func (e *LockedError) Is(target error) bool { return target == ErrLocked }
func (*LockedError) SafeToRetry() bool      { return true } // nothing was opened

// FolderError says that the folder cannot be used, and what to do about it.
type FolderError struct {
	Dir string
	Fix string
	Err error
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("persistence: folder %s cannot be used: %v: %s", e.Dir, e.Err, e.Fix)
}

func (e *FolderError) Unwrap() error   { return e.Err }
func (*FolderError) SafeToRetry() bool { return true } // nothing was opened

// ReadError says that the disk did not return a message, which is still pending.
type ReadError struct {
	Seq uint64
	Err error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("persistence: reading message %d: %v: try again later, or give it up with Done and Dropped", e.Seq, e.Err)
}

func (e *ReadError) Unwrap() error   { return e.Err }
func (*ReadError) SafeToRetry() bool { return true } // the message is still pending

// VersionError says that a newer release wrote the folder.
type VersionError struct {
	File    string
	Version uint16 // the format's version found; this release reads up to FormatVersion
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("persistence: %s has format version %d, this release reads up to %d: use the newer release again, or another folder", e.File, e.Version, FormatVersion)
}

func (*VersionError) SafeToRetry() bool { return true } // nothing was opened

// OptionError names an option outside its range.
type OptionError struct {
	Option string
	Value  int64
	Range  string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("persistence: Options.%s = %d: must be %s, or 0 for the default", e.Option, e.Value, e.Range)
}

func (*OptionError) SafeToRetry() bool { return true } // nothing was opened

// Corruption is a damaged place in a file. The log uses what is readable around
// it. Messages in it are counted as Dropped and Lost.
type Corruption struct {
	File   string // path of the file
	Offset int64  // start of the damage
	Length int64  // unreadable bytes; 0: the file is missing or too short
	Seq    uint64 // the message that is lost, if a read found the damage; 0 at opening
	Copy   string // path of a copy of the file; empty: there is none
	Err    error  // what is wrong
}
