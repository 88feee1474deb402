package persistence

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// Renewal is why an opening of a log began a new epoch, see [Streams].
type Renewal uint8

const (
	// Continued: the epoch goes on, or the opening created the log.
	Continued = Renewal(recovery.Continued)
	// CopiedFiles: the folder is a copy, or was restored from one: a file of the log is not the
	// file that was created. The log knows no session.
	CopiedFiles = Renewal(recovery.CopiedFiles)
	// OtherHost: another machine wrote the log. It knows no session.
	OtherHost = Renewal(recovery.OtherHost)
	// Damaged: damage may have taken numbers. Options.OnCorruption reports it.
	Damaged = Renewal(recovery.Damaged)
	// TailLost: the log was not closed, and under the sync policy it was written with, a power
	// failure since may have taken the messages accepted last. Or an earlier release wrote it.
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

// Copied reports whether the folder is a copy of another one. Then the log knows no session: the
// original may be using its packet identifiers.
func (r Renewal) Copied() bool { return r == CopiedFiles || r == OtherHost || r == declared }

// NextEpoch returns an epoch for a custom store: above the last one, 0 if there was none. It is
// the time in Unix milliseconds if that is above. Otherwise, and if the clock was never set (it
// shows a time before the year 2020), chance keeps it apart from that of another store.
func NextEpoch(last uint64) uint64 { return ledger.NextEpoch(time.Now().UnixMilli(), last) }
