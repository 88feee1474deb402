package outbox

import "math/bits"

// Open returns the number of messages in the table of open messages.
func (o *Outbox) Open() (n int) {
	o.open.mu.Lock()
	defer o.open.mu.Unlock()
	for _, p := range o.open.pages {
		n += bits.OnesCount64(p.open)
	}
	return n + len(o.open.early)
}
