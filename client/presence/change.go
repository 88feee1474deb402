package presence

import "time"

// Device is the known state of a device.
type Device struct {
	Topic  string // its status topic, which identifies it
	State  State
	Since  time.Time // since when it has been in State
	Seen   time.Time // time of its last status, except for retained ones that were already known
	Boot   BootID    // of the last status that had one and counted; otherwise zero
	Boots  int       // number of boots; a boot that returns after three others counts again
	Flaps  int       // how often it changed from Online to Offline and back
	Status Status    // the last status that counted; zero if it was invalid
}

// Kind is the kind of a Change.
type Kind uint8

const (
	// Changed: Device has changed its State; From is the previous one.
	Changed Kind = iota
	// Forgotten: the retained status of Device was removed, and the Tracker has forgotten the
	// device. Its State is Unknown.
	Forgotten
	// ViewStale: the link has been down for StaleAfter. All devices that were Online and were not
	// confirmed since are Stale. They have no Change of their own, and none when they are
	// confirmed. It is reported once until a ViewSynced. It is reported again if a device that was
	// reported Online since is Stale now.
	ViewStale
	// ViewSynced: all retained statuses are known. Devices that a ViewStale made Stale, and that
	// had no Change since, are Online again.
	ViewSynced
	// ViewFull: MaxDevices or MaxBytes is reached, so the device with Device.Topic was refused. It
	// is reported once, and again after there was space.
	ViewFull
	// Missed: a reader was too slow, so Changes were dropped. Call Snapshot.
	Missed
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if k > Missed {
		return "unknown"
	}
	return [...]string{"changed", "forgotten", "view stale", "view synced", "view full", "missed"}[k]
}

// Change is a change that a Tracker reports. Device and From are set for Changed and Forgotten.
type Change struct {
	Kind    Kind
	At      time.Time
	Device  Device // after the change
	From    State  // before the change
	Initial bool   // the device's first status was a retained one, so it may have been in this State for long
	Missed  int    // number of dropped Changes, if Kind is Missed
}

// Counts are the number of devices by state, and the counters of a Tracker.
type Counts struct {
	Devices                         int // all devices
	Online, Offline, Stale, Unknown int // by State; their sum is Devices

	// Synced reports whether all retained statuses are known and the link is up.
	Synced bool

	Words      uint64 // status messages received
	Unreadable uint64 // of these, invalid payloads
	Superseded uint64 // of these, offline messages of a boot that a newer one has replaced
	Refused    uint64 // of these, messages of devices beyond MaxDevices or MaxBytes
}
