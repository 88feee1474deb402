package dedupe

import (
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/safe"
)

// Errors for errors.Is.
var (
	ErrClosed          = safe.New("dedupe: cache is closed")
	ErrClaimLost       = errors.New("dedupe: claim lost")
	ErrEmptyKey        = safe.New("dedupe: key is empty; use the message ID, or Hash for messages without one")
	ErrKeyTooLong      = safe.New("dedupe: key is longer than 65,535 bytes; use its Hash")
	ErrTooManyInFlight = safe.New("dedupe: too many claims in flight; commit or abort some, or raise Options.MaxInFlight")
	ErrFormat          = safe.New("dedupe: not a dedupe log; use another path, or move the file away")
)

// ClaimLostError reports a Commit, Renew or Abort of a claim that does not hold
// its key. It matches [ErrClaimLost].
type ClaimLostError struct {
	Claim Claim

	// Holder is the claim that holds the key now. It is zero if none does, or if
	// the cache does not know it.
	Holder Claim
	// Committed reports that the key is committed, by another claim.
	Committed bool
}

// Error describes why the claim does not hold.
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

// Is makes errors.Is(err, ErrClaimLost) true.
func (e *ClaimLostError) Is(target error) bool { return target == ErrClaimLost }

// InFlightError reports that Begin would have exceeded Options.MaxInFlight. It
// matches [ErrTooManyInFlight].
type InFlightError struct {
	Limit int
}

// Error describes the limit.
func (e *InFlightError) Error() string {
	return fmt.Sprintf("dedupe: %d claims are in flight, the limit; commit or abort some, or raise Options.MaxInFlight", e.Limit)
}

// Is makes errors.Is(err, ErrTooManyInFlight) true.
func (e *InFlightError) Is(target error) bool { return target == ErrTooManyInFlight }

// SafeToRetry returns true: no claim was made.
func (*InFlightError) SafeToRetry() bool { return true }

// CommitError reports that a committed key is not durable. Within this process
// the key is a Duplicate all the same, and the next Commit that succeeds makes it
// durable too. It unwraps to the error of the file system.
type CommitError struct {
	Path string
	Err  error
}

// Error describes the failure.
func (e *CommitError) Error() string {
	return fmt.Sprintf("dedupe: commit to %s is not durable: %v; a restart now would handle the message again", e.Path, e.Err)
}

// Unwrap returns the error of the file system.
func (e *CommitError) Unwrap() error { return e.Err }

// SafeToRetry returns false: the key may be stored.
func (*CommitError) SafeToRetry() bool { return false }

// LockedError reports that another process, or another File of this process, has
// the log open.
type LockedError struct {
	Path string
	PID  int // of the holder; 0: unknown
}

// Error names the holder.
func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("dedupe: %s is in use by %s; stop it or use another path", e.Path, holder)
}

// SafeToRetry returns true: nothing was opened.
func (*LockedError) SafeToRetry() bool { return true }
