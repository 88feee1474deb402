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
