package wire

const (
	KeepBuffer = keepBuffer
	MaxVarint  = maxVarint
)

// BufferSize returns the size of the buffer.
func (r *Reader) BufferSize() int { return len(r.buf) }
