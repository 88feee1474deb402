package presence

import "time"

// Device is the known state of a device.
type Device struct {
	Topic string // the status topic of the device, which identifies it
	State State
	// Since is the time at which the device entered this State. It is the time of reception, unless
	// the status is a retained one with a Time, such as birth or close. Since is then Status.Time,
	// but not later than the reception, and not earlier than the last status of the device before
	// it. Without such a last status, a clock of the device that is set back makes Since too early.
	// A heartbeat has its own Time, so a device with heartbeats was Online before Since if its first
	// status was a heartbeat. A will has no Time.
	Since time.Time
	// Seen is the time of the last status. A retained status that was already known does not change
	// it.
	Seen time.Time
	// Boot is the newest boot of the device: the boot of the last status that counted and had a boot
	// ID. An offline status of an earlier boot does not change it, even if it counts. Status.Boot
	// then differs from Boot. Boot is zero if no status with a boot ID was received.
	Boot BootID
	// Boots is the number of boots. The Tracker remembers the last four boots of a device. An older
	// boot that returns counts again.
	Boots  int
	Flaps  int    // how many times the device went from Online to Offline and back
	Status Status // the last status that counted; zero if its payload was invalid
	// Details are those of the last status that counted. If it was an offline status without
	// details, such as a will, they are those of the status before it.
	Details Details
}

// Kind is the kind of a Change.
type Kind uint8

const (
	// Changed: Device has changed its State. From is the previous State.
	Changed Kind = iota
	// Restarted: Device is Online with a boot that was not seen before, and its State was Online
	// before. An example is a restart within the Will Delay Interval. Device.Status has the new
	// boot and version. From is Online, or Stale after a ViewStale.
	Restarted
	// Forgotten: Device has no retained status, and the Tracker has forgotten the device. Its State
	// is Unknown. Change.Absent distinguishes two causes.
	Forgotten
	// ViewStale: the link has been down for StaleAfter. Every device that was Online, and was not
	// confirmed since, is now Stale. These devices have no Change of their own. They also have no
	// Change when they are confirmed later. ViewStale is reported once until the next ViewSynced.
	// It is reported again before that if a device was reported Online since, and is Stale now.
	ViewStale
	// ViewSynced: all retained statuses are known. A device that a ViewStale made Stale is Online
	// again, unless a later Change reports another State.
	ViewSynced
	// ViewFull: MaxDevices or MaxBytes is reached, so the Tracker refused the device with
	// Device.Topic. The Tracker reports ViewFull once. It reports it again if a device was removed
	// and the limit is then reached again.
	ViewFull
	// Missed: the reader of the Changes was too slow, so some Changes were dropped. Call Snapshot
	// for the present states.
	Missed
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if k > Missed {
		return "unknown"
	}
	return [...]string{"changed", "restarted", "forgotten", "view stale", "view synced", "view full", "missed"}[k]
}

// Change is a change that a Tracker reports. Device and From are set for Changed,
// Restarted and Forgotten.
type Change struct {
	Kind   Kind
	At     time.Time
	Device Device // the device after the change
	From   State  // the State before the change
	// Initial reports that the first status of the device was a retained one. The device may have
	// been in this State for a long time.
	Initial bool
	// Absent is set if Kind is Forgotten and the server had no retained status after a reconnect.
	// Either the status was cleared while the watcher was disconnected, or the server has lost its
	// retained messages. In the second case, the device is known again after its next status.
	// Absent is false if the Tracker received the empty message that clears the status.
	Absent bool
	Missed int // number of dropped Changes, if Kind is Missed
}

// Counts are the number of devices by state, and the counters of a Tracker.
type Counts struct {
	Devices int // number of known devices
	// The number of devices in each State. Their sum is Devices.
	Online, Offline, Stale, Unknown int

	// Synced reports whether all retained statuses are known and the link is up.
	Synced bool

	Words uint64 // status messages received
	// Unreadable is the number of received status messages with an invalid payload.
	Unreadable uint64
	// Superseded is the number of received messages that were ignored. They were offline messages
	// of a boot that a newer boot has replaced, or retained online messages of a boot that has
	// closed.
	Superseded uint64
	// Refused is the number of received messages that were refused because of MaxDevices or
	// MaxBytes.
	Refused uint64
}
