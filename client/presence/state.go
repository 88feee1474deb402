package presence

// State says whether a device is there. The zero State is Unknown.
type State uint8

const (
	Unknown State = iota // no status is known
	Online               // by its last status
	Offline              // by its last status, or by its will
	Stale                // was Online, and the confirmation is overdue
)

// String is the state in lower case, as it is in a payload.
func (s State) String() string {
	if s > Stale {
		s = Unknown
	}
	return [...]string{"unknown", "online", "offline", "stale"}[s]
}
