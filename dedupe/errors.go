package dedupe

import (
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/safe"
)

// Errors that callers can test for with errors.Is.
var (
	ErrClosed          = safe.New("dedupe: cache is closed; open it again")
	ErrClaimLost       = errors.New("dedupe: claim lost; another owner may handle the message, so do not commit its effect")
	ErrEmptyKey        = safe.New("dedupe: key is empty; use the message ID, or Hash for messages without one")
	ErrKeyTooLong      = safe.New("dedupe: key is longer than 65,535 bytes; use its Hash")
	ErrTooManyInFlight = safe.New("dedupe: too many claims in flight; commit or abort some, or raise Options.MaxInFlight")
	ErrFormat          = safe.New("dedupe: not a dedupe log; use another path, or move the file away")
)

// ClaimLostError reports that Commit, Renew or Abort was called for a claim that no longer holds
// its key. It matches [ErrClaimLost].
type ClaimLostError struct {
	Claim     Claim // the claim that was lost
	Holder    Claim // the claim that holds the key now; zero if no claim holds it or the holder is unknown
	Committed bool  // another claim has committed the key
}

func (e *ClaimLostError) Error() string {
	why := "it has ended"
	switch {
	case e.Committed:
		why = "another claim has committed the key"
	case e.Holder.Token != 0:
		why = fmt.Sprintf("owner %q has taken the key over with token %d", e.Holder.Owner, e.Holder.Token)
	}
	return fmt.Sprintf("dedupe: claim of owner %q with token %d on key %.40q lost: %s", e.Claim.Owner, e.Claim.Token, e.Claim.Key, why)
}

func (e *ClaimLostError) Is(target error) bool { return target == ErrClaimLost }

// InFlightError reports that MaxInFlight or MaxBytes was reached. It matches [ErrTooManyInFlight].
type InFlightError struct {
	Limit int   // number of claims in flight when the limit was reached
	Bytes int64 // the value of MaxBytes if MaxBytes was reached; otherwise 0
}

func (e *InFlightError) Error() string {
	if e.Bytes > 0 {
		return fmt.Sprintf("dedupe: too many claims in flight: the keys of %d claims take %d bytes, the limit; commit or abort some, use shorter keys, or raise Options.MaxBytes", e.Limit, e.Bytes)
	}
	return fmt.Sprintf("dedupe: too many claims in flight: %d, the limit; commit or abort some, or raise Options.MaxInFlight", e.Limit)
}

func (e *InFlightError) Is(target error) bool { return target == ErrTooManyInFlight }
func (*InFlightError) SafeToRetry() bool      { return true } // Begin has claimed nothing

// CommitError reports that a committed key is not durable. In this process, the key is a Duplicate
// in spite of the error. The next successful Commit makes the key durable too. CommitError unwraps
// to the error of the file system.
type CommitError struct {
	Path string
	Err  error
}

func (e *CommitError) Error() string {
	return fmt.Sprintf("dedupe: commit to %s is not durable: %v; %s: after a restart, the message would be handled again", e.Path, e.Err, fsys.Remedy(e.Err))
}

func (e *CommitError) Unwrap() error   { return e.Err }
func (*CommitError) SafeToRetry() bool { return false } // the key may be stored

// cannot wraps an error of the file system and adds advice.
func cannot(what string, err error) error {
	return fmt.Errorf("dedupe: cannot %s: %w; %s", what, err, fsys.Remedy(err))
}

// LockedError reports that the log is already open, in another process or in another File.
type LockedError struct {
	Path string
	PID  int // process ID of the process that has the log open; 0 if unknown
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("dedupe: %s is in use by %s; stop it or use another path", e.Path, holder)
}

func (*LockedError) SafeToRetry() bool { return true } // nothing was opened
