package presence

import "time"

// Device is what is known of one device.
type Device struct {
	Topic  string // its status topic, which names it
	State  State
	Since  time.Time // since when it is in State
	Seen   time.Time // time of its last status, without retained ones that were known already
	Boot   BootID    // of the last status that had one and counted; zero: none had
	Boots  int       // boots seen; one that returns after three others counts again
	Flaps  int       // how often it went from Online to Offline and back
	Status Status    // the last one that counted; zero if it could not be read
}

// Kind is the kind of a Change.
type Kind uint8

const (
	// Changed: Device is in another State than before, From.
	Changed Kind = iota
	// Forgotten: the retained status of Device is gone, and so is all that was
	// known of it. Its State is Unknown.
	Forgotten
	// ViewStale: the link has been down for StaleAfter, so all devices that were
	// Online and were not confirmed since are Stale. They get no Change of their own,
	// nor do they when they are confirmed. Reported once until a ViewSynced, and again,
	// or before the first one, if a device that was reported Online is Stale now.
	ViewStale
	// ViewSynced: everything is known, again or for the first time. Devices that a
	// ViewStale made Stale and that had no Change since are Online again.
	ViewSynced
	// ViewFull: there are MaxDevices, or MaxBytes of topics, and the device with
	// Device.Topic is one more. Reported once, and again if there was room meanwhile.
	ViewFull
	// Missed: a reader was too slow, and some Changes were dropped. Take a Snapshot.
	Missed
)

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	if k > Missed {
		return "unknown"
	}
	return [...]string{"changed", "forgotten", "view stale", "view synced", "view full", "missed"}[k]
}

// Change is one thing that happened. Changed and Forgotten set Device and From.
type Change struct {
	Kind    Kind
	At      time.Time
	Device  Device // after it
	From    State  // before it
	Initial bool   // the first status of the device was a retained one: nothing happened just now
	Missed  int    // how many Changes were dropped, if Kind is Missed
}

// Counts are the devices by state, and counters of a Tracker.
type Counts struct {
	Devices                         int // all of them
	Online, Offline, Stale, Unknown int // by State; their sum is Devices

	// Synced reports that every retained status is known and that the link is up.
	Synced bool

	Words      uint64 // status messages received
	Unreadable uint64 // of these, those whose payload is not a status
	Superseded uint64 // of these, those that say offline for a boot that a newer one has replaced
	Refused    uint64 // of these, those of devices beyond MaxDevices or MaxBytes
}
