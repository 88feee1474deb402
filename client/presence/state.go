package presence

// State says whether a device is there. The zero State is Unknown.
type State uint8

const (
	Unknown State = iota // nothing was heard of it, or it was forgotten
	Online               // it said so, and nothing speaks against it
	Offline              // it said so, or the server said so for it
	Stale                // it was online, and what should confirm that stays away
)

// String is the state in lower case, as it is in a payload.
func (s State) String() string {
	switch s {
	case Online:
		return "online"
	case Offline:
		return "offline"
	case Stale:
		return "stale"
	}
	return "unknown"
}
