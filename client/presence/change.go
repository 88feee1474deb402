package presence

import "time"

// Device is what is known of one device.
type Device struct {
	Topic string // its status topic, which names it
	State State
	Since time.Time // since when it is in State, as far as we heard
	// Seen is when its last word came. A retained status that says nothing new is
	// no word.
	Seen time.Time
	// Boot is that of the last word that had one and counted; zero: none had.
	Boot BootID
	// Boots counts the boots that were heard of. One that comes back when three
	// others came in between counts again.
	Boots int
	// Flaps counts how often it went from Online to Offline and back.
	Flaps int
	// Status is the last word that counted; zero if that could not be read.
	Status Status
}

// Kind says what a Change tells.
type Kind uint8

const (
	// Changed: Device is in another State than before, From.
	Changed Kind = iota
	// Forgotten: the retained status of Device is gone, and so is all that was
	// known of it. Its State is Unknown.
	Forgotten
	// ViewStale: our own link has been gone for StaleAfter, so all devices that
	// were Online and were not confirmed since are Stale. They have no Change of
	// their own; nor have they when they are confirmed. Told once until a ViewSynced,
	// and again, or before the first one, where a device was told to be Online that is
	// Stale now.
	ViewStale
	// ViewSynced: everything is known again, or for the first time. What a ViewStale
	// made Stale and had no Change since is Online again.
	ViewSynced
	// ViewFull: there are MaxDevices, or MaxBytes of topics, and the device with
	// Device.Topic is one more.
	// Told once, and again when there was room in between.
	ViewFull
	// Missed: a reader was too slow, and some Changes are not told. Take a
	// Snapshot; what comes behind this is newer or in it already.
	Missed
)

// String names the kind in lower case.
func (k Kind) String() string {
	switch k {
	case Changed:
		return "changed"
	case Forgotten:
		return "forgotten"
	case ViewStale:
		return "view stale"
	case ViewSynced:
		return "view synced"
	case ViewFull:
		return "view full"
	case Missed:
		return "missed"
	}
	return "unknown"
}

// Change is one thing that happened. Device and From are set for Changed and
// Forgotten.
type Change struct {
	Kind   Kind
	At     time.Time
	Device Device // after it
	From   State  // before it
	// Initial: the first that is heard of the device is its retained status, so
	// this is no news.
	Initial bool
	Missed  int // how many Changes are not told, if Kind is Missed
}

// Counts sums a Tracker up.
type Counts struct {
	Devices                         int // all of them
	Online, Offline, Stale, Unknown int // by State; their sum is Devices
	// Synced: all that the server has retained is known, and our link stands.
	Synced bool

	Words      uint64 // status messages that came
	Unreadable uint64 // of them, those whose payload is no status
	Superseded uint64 // of them, those that say offline for a boot that a newer one has replaced
	Refused    uint64 // of them, those of devices beyond MaxDevices or MaxBytes
}
