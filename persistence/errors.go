package persistence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// FormatVersion is the format version that this release writes. It is also the newest version that
// this release can read.
const FormatVersion = record.FormatVersion

// Errors of a store, for use with errors.Is. The types [FailedError], [FullError], [LockedError]
// and [PacketTooLargeError] contain details. A log becomes degraded when a write or an fsync fails,
// and a second attempt in a new file fails too. It stays degraded until a later attempt succeeds. A
// log has failed if Close could not write the remaining records.
var (
	ErrClosed            = errors.New("persistence: the store is closed; open it again")
	ErrDegraded          = safe.New("persistence: the disk refuses writes; free space on the disk or repair it: the log retries by itself")
	ErrFailed            = errors.New("persistence: the store has failed; close it, free space on the disk or repair it, and open the store again")
	ErrFull              = safe.New("persistence: the store is full; wait for acknowledgements, or raise its limits")
	ErrLocked            = safe.New("persistence: the folder is in use; stop the other process, or use another folder")
	ErrPacketTooLarge    = safe.New("persistence: packet too large; split it or raise Limits.MaxPacketBytes")
	ErrUnknownStream     = safe.New("persistence: unknown stream; register its name with Stream first")
	ErrStreamName        = safe.New("persistence: stream name is not 1 to 1,024 bytes long; use another name, for example a hash")
	ErrUnknownSequence   = safe.New("persistence: unknown sequence; pass Entry.Seq or Ticket.Seq of this store")
	ErrUnknownResult     = safe.New("persistence: unknown result; use a constant of type ResultKind, such as Acked")
	ErrPriority          = safe.New("persistence: unknown priority; use Normal, High or Urgent")
	ErrClientID          = safe.New("persistence: ClientID is longer than 65,535 bytes; use a shorter one")
	ErrKey               = safe.New("persistence: key is longer than 1,024 bytes; use a shorter one, for example a hash")
	ErrSessionLostPolicy = safe.New("persistence: unknown policy for a lost session; use AsConfigured, Republish or FailInFlight")
	ErrDeferral          = safe.New("persistence: invalid deferral; set Since, and Attempts from 0 to 4,294,967,295")
	ErrPacketID          = safe.New("persistence: packet identifier is 0; treat the packet as malformed") // [MQTT-2.2.1-3]
)

// FullError reports that a limit of the store is reached, and names the limit. It matches
// [ErrFull].
type FullError struct {
	Limit string // name of the option that sets the limit
	Max   int64  // the value of the option
	// Reserved is Limits.Reserved if it caused the refusal, else 0. Messages of priority Normal may
	// use 100 - Reserved percent of Max.
	Reserved int
	Priority Priority // priority of the refused message
}

func (e *FullError) Error() string {
	switch {
	case e.Limit == "MaxStreams":
		return fmt.Sprintf("persistence: the store is full: %d stream names are registered; use fewer names, or raise Limits.MaxStreams", e.Max)
	case e.Reserved > 0:
		return fmt.Sprintf("persistence: the store is full for priority %v: the message does not fit into %d %% of Limits.%s = %d, because Limits.Reserved = %d keeps the rest for High and Urgent; wait for acknowledgements, lower Reserved, or raise %[3]s",
			e.Priority, 100-e.Reserved, e.Limit, e.Max, e.Reserved)
	case e.Limit == "MaxDiskBytes":
		return fmt.Sprintf("persistence: the store is full: the message does not fit into Limits.MaxDiskBytes = %d; end the oldest messages, which keep their segments, or raise the option", e.Max)
	}
	return fmt.Sprintf("persistence: the store is full: the message does not fit into Limits.%s = %d; wait for acknowledgements, end messages with Done, or raise the option", e.Limit, e.Max)
}

func (e *FullError) Is(target error) bool { return target == ErrFull }
func (*FullError) SafeToRetry() bool      { return true } // nothing was stored

// PacketTooLargeError reports that a packet exceeds a limit. It matches [ErrPacketTooLarge].
type PacketTooLargeError struct {
	Size, Max int64  // size of the packet, and the limit, in bytes
	Limit     string // name of the option that sets the limit
}

func (e *PacketTooLargeError) Error() string {
	if e.Limit == "MaxDiskBytes" {
		return fmt.Sprintf("persistence: packet too large: %d bytes are more than %d, the most that Limits.MaxDiskBytes allows for one packet of its priority; split it or raise the option", e.Size, e.Max)
	}
	return fmt.Sprintf("persistence: packet too large: %d bytes are more than Limits.%s = %d; split it or raise the option", e.Size, e.Limit, e.Max)
}

func (e *PacketTooLargeError) Is(target error) bool { return target == ErrPacketTooLarge }
func (*PacketTooLargeError) SafeToRetry() bool      { return true } // nothing was stored

// FailedError describes the write or fsync that made a store fail. A [Log] fails only if the last
// write or fsync fails, which is a part of Close. FailedError matches [ErrFailed]. It wraps the
// error of the operating system.
type FailedError struct {
	Op  string // the operation that failed
	Err error  // the error of the operating system
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("persistence: the store has failed: %s: %v; close it, free space on the disk or repair it, and open the store again", e.Op, e.Err)
}

func (e *FailedError) Is(target error) bool { return target == ErrFailed }
func (e *FailedError) Unwrap() error        { return e.Err }
func (*FailedError) SafeToRetry() bool      { return false } // the next opening may find the written records

// DegradedError describes the write or fsync that the disk refused. Until the disk accepts writes
// again, the log accepts no messages and makes no records durable. It keeps its messages and
// retries by itself. DegradedError matches [ErrDegraded]. It wraps the error of the operating
// system.
type DegradedError struct {
	Since time.Time // time at which the outage began
	Fix   string    // advice for the operator
	Err   error     // the error of the operating system
}

func (e *DegradedError) Error() string {
	return fmt.Sprintf("persistence: the disk has refused writes since %s: %v; %s: the log retries by itself", e.Since.Format(time.RFC3339), e.Err, e.Fix)
}

func (e *DegradedError) Is(target error) bool { return target == ErrDegraded }
func (e *DegradedError) Unwrap() error        { return e.Err }
func (*DegradedError) SafeToRetry() bool      { return true } // nothing was stored

// StalledError reports that the disk has not responded to a write or an fsync within
// Options.WriteTimeout. If Enqueue returns this error, the message was not stored. If Wait returns
// this error, the store still writes the message when the disk responds. StalledError matches
// [context.DeadlineExceeded].
type StalledError struct{ After time.Duration }

func (e *StalledError) Error() string {
	return fmt.Sprintf("persistence: the disk has not responded to a write for %v; check the disk: the log continues when it responds", e.After)
}

func (e *StalledError) Is(target error) bool { return target == context.DeadlineExceeded }
func (*StalledError) Timeout() bool          { return true }
func (*StalledError) SafeToRetry() bool      { return true } // nothing was stored, unless Wait returned the error

// LockedError reports that another process has the folder open. It matches [ErrLocked].
type LockedError struct {
	Dir string
	PID int // process ID of the process that has the folder open; 0 if unknown
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("persistence: folder %s is in use by %s; stop it, or give each process its own folder", e.Dir, holder)
}

func (e *LockedError) Is(target error) bool { return target == ErrLocked }
func (*LockedError) SafeToRetry() bool      { return true } // nothing was opened

// FolderError reports that a folder cannot be used for a log.
type FolderError struct {
	Dir string
	Fix string // advice for the operator
	Err error
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("persistence: folder %s cannot be used: %v; %s", e.Dir, e.Err, e.Fix)
}

func (e *FolderError) Unwrap() error   { return e.Err }
func (*FolderError) SafeToRetry() bool { return true } // nothing was opened

// ReadError reports that a message could not be read from the disk. The message is still pending.
type ReadError struct {
	Seq uint64
	Err error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("persistence: cannot read message %d: %v; try again later, or end it with Done and Dropped", e.Seq, e.Err)
}

func (e *ReadError) Unwrap() error   { return e.Err }
func (*ReadError) SafeToRetry() bool { return true } // the message is still pending

// VersionError reports that a newer release wrote the folder.
type VersionError struct {
	File    string
	Version uint16 // the format version of the file, which is higher than FormatVersion
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("persistence: %s has format version %d, this release reads up to %d; use the newer release, or another folder", e.File, e.Version, FormatVersion)
}

func (*VersionError) SafeToRetry() bool { return true } // nothing was opened

// OptionError names an option that is out of range.
type OptionError struct {
	Option string
	Value  int64
	Range  string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("persistence: invalid Options.%s = %d; use %s, or 0 for the default", e.Option, e.Value, e.Range)
}

func (*OptionError) SafeToRetry() bool { return true } // nothing was opened

// Corruption describes a damaged place in a file of the log. The log uses all readable data around
// the place. Messages in the damaged place count as Dropped and Lost.
type Corruption struct {
	File   string // path of the file
	Offset int64  // offset in the file where the damage starts
	Length int64  // number of unreadable bytes; 0 if the file is missing or too short
	Seq    uint64 // the lost message, if reading it found the damage; 0 if opening the log found the damage
	Copy   string // path of a copy of the damaged file; empty if there is no copy
	Err    error  // describes the kind of damage
}
