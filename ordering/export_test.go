package ordering

const (
	MaxIDBytes   = maxIDBytes
	MaxTimestamp = maxTimestamp
)

type Ranges = ranges

var (
	Nesting = nesting
	Normal  = normal
)

// Options returns the options with their defaults.
func (r *Resequencer[T]) Options() Options { return r.opts }

// Len returns the number of keys.
func (s *Sequencer) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys)
}
