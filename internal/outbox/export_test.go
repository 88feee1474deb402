package outbox

// Open returns how many messages the table of open messages has.
func (o *Outbox) Open() int {
	o.open.mu.Lock()
	defer o.open.mu.Unlock()
	return len(o.open.open)
}
