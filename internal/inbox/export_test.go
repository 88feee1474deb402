package inbox

// WorkerOf returns a number for the worker of an ordering key.
func (b *Inbox[M]) WorkerOf(orderKey string) int {
	for i, w := range b.workers {
		if w == b.worker(orderKey) {
			return i
		}
	}
	return -1
}
