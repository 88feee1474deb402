package persistence

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// Renewal is the reason why an opening of a log began a new epoch, see [Streams].
type Renewal uint8

const (
	// Continued: the epoch continues, or the opening created the log.
	Continued = Renewal(recovery.Continued)
	// CopiedFiles: the folder is a copy or was restored from a backup, because a file of the log is
	// not the file that was created. The log has forgotten the session.
	CopiedFiles = Renewal(recovery.CopiedFiles)
	// OtherHost: another machine wrote the log. The log has forgotten the session.
	OtherHost = Renewal(recovery.OtherHost)
	// Damaged: damage may have removed sequence numbers. Options.OnCorruption reports it.
	Damaged = Renewal(recovery.Damaged)
	// TailLost: a power failure may have removed the messages accepted last. The log was not
	// closed, and the sync policy with which it was written does not cover power failures. TailLost
	// is also the reason after an earlier release wrote the log.
	TailLost = Renewal(recovery.TailLost)
	// ClockSet: the clock was not set when the epoch began, and now it is.
	ClockSet = Renewal(recovery.ClockSet)
	declared = Renewal(recovery.ClockSet + 1) // DeclareCopy opened the log
)

var renewalNames = [...]string{"continued", "copied files", "other host", "damaged", "tail lost", "clock set", "declared"}

// String returns the name of the reason in lower case.
func (r Renewal) String() string {
	if int(r) >= len(renewalNames) {
		return "unknown"
	}
	return renewalNames[r]
}

// Copied reports whether the folder is a copy. The log has then forgotten the session, because the
// original log may be using its packet identifiers.
func (r Renewal) Copied() bool { return r == CopiedFiles || r == OtherHost || r == declared }

// NextEpoch returns an epoch for a custom store. last is the previous epoch, or 0. The result is
// the time in Unix milliseconds if that is above last. Otherwise, and if the clock shows a time
// before the year 2020, the result contains random bits, so that it differs from the epochs of
// other stores.
func NextEpoch(last uint64) uint64 { return ledger.NextEpoch(time.Now().UnixMilli(), last) }
