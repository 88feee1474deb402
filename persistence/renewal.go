package persistence

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// Renewal is the reason why the opening of a log began a new epoch. [Streams] explains epochs.
type Renewal uint8

const (
	// Continued: the epoch continues, or the opening created the log.
	Continued = Renewal(recovery.Continued)
	// CopiedFiles: the folder is a copy, or was restored from a backup. The log detects this
	// because one of its files is not the file that it created. The log has forgotten the session.
	CopiedFiles = Renewal(recovery.CopiedFiles)
	// OtherHost: another machine wrote the log. The log has forgotten the session.
	OtherHost = Renewal(recovery.OtherHost)
	// Damaged: damage may have removed sequence numbers. Options.OnCorruption reports it.
	Damaged = Renewal(recovery.Damaged)
	// TailLost: a power failure may have removed the messages that were accepted last. The log was
	// not closed, and it was written with a sync policy that does not cover power failures.
	// TailLost is also the reason if an earlier release wrote the log.
	TailLost = Renewal(recovery.TailLost)
	// ClockSet: the clock of the system was not set when the epoch began, but it is set now.
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

// Copied reports whether the folder is a copy. If it is, the log has forgotten the session, because
// the original log may still use the packet identifiers of the session.
func (r Renewal) Copied() bool { return r == CopiedFiles || r == OtherHost || r == declared }

// NextEpoch returns an epoch for a custom store. last is the previous epoch, or 0 if there was
// none. The result is the time in Unix milliseconds if that number is higher than last. If it is
// not higher, or if the clock shows a time before the year 2020, the result contains random bits.
// The random bits make it different from the epochs of other stores.
func NextEpoch(last uint64) uint64 { return ledger.NextEpoch(time.Now().UnixMilli(), last) }
