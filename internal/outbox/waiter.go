package outbox

import "sync"

// Waiter is where the result of one message can be read and awaited. The zero
// value is pending. All methods are safe for concurrent use.
type Waiter struct {
	mu     sync.Mutex
	done   chan struct{} // made when somebody waits
	result Result
}

// Result is what became of a message.
type Result struct {
	State  State
	Reason byte  // MQTT reason code
	Err    error // nil if pending or acked
}

// Done returns a channel that is closed when the result is final.
func (w *Waiter) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done == nil {
		w.done = make(chan struct{})
		if w.result.State != Pending {
			close(w.done)
		}
	}
	return w.done
}

// Result returns the result so far.
func (w *Waiter) Result() Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.result
}

// Resolve makes r final, unless another result is.
func (w *Waiter) Resolve(r Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.result.State != Pending {
		return
	}
	w.result = r
	if w.done != nil {
		close(w.done)
	}
}
