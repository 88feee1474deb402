package presence

// State is the state of a device. The zero State is Unknown.
type State uint8

const (
	Unknown State = iota // no status is known
	Online               // according to its last status
	Offline              // according to its last status, or to its will
	Stale                // was Online, but was not confirmed in time
)

// String returns the state in lower case, as in a payload.
func (s State) String() string {
	if s > Stale {
		s = Unknown
	}
	return [...]string{"unknown", "online", "offline", "stale"}[s]
}
