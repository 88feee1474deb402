package presence

// State is the state of a device. The zero State is Unknown.
type State uint8

const (
	Unknown State = iota // no valid status of the device is known
	Online               // the last status says that the device is online
	Offline              // the last status, or the will, says that the device is offline
	Stale                // the device was Online, but was not confirmed in time
)

// String returns the state in lower case, as in a payload.
func (s State) String() string {
	if s > Stale {
		s = Unknown
	}
	return [...]string{"unknown", "online", "offline", "stale"}[s]
}
