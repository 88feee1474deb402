package presence

const MaxEnded = maxEnded

var StateOf = said

// Checks returns the number of checks for silence that are scheduled.
func (t *Tracker) Checks() int { return len(t.silence.heap) }

// Ended returns the number of ended connections that are remembered.
func (t *Tracker) Ended() int { return len(t.view.ended) }
