package inbox

import "github.com/mooring-mqtt/mooring/internal/callback"

// waiting are messages of one worker that cannot be claimed yet, by ordering key:
// another owner handles the message, or the cache fails. The worker goes on with other
// ordering keys.
type waiting[M any] map[string][]Item[M]

// behind makes a message wait if an earlier one with its ordering key does.
func (w waiting[M]) behind(item Item[M]) bool {
	list, waits := w[item.OrderKey]
	if waits {
		w[item.OrderKey] = append(list, item)
	}
	return waits
}

// end returns the messages that wait with an ordering key, in order.
func (w waiting[M]) end(orderKey string) []Item[M] {
	list := w[orderKey]
	delete(w, orderKey)
	return list
}

// waitFor makes a message wait until until returns, and for a backoff if that fails;
// nil: for a backoff alone.
func (w *worker[M]) waitFor(item Item[M], until func() error) {
	backoff := w.cfg.Backoff(item.tries)
	item.tries++
	w.waiting[item.OrderKey] = []Item[M]{item}
	w.helpers.Go(func() {
		failed := true
		defer func() { // also after runtime.Goexit
			if failed {
				w.sleep(backoff)
			}
			w.queue.decide(item.OrderKey)
		}()
		defer w.cfg.Guard.Enter()()
		if until != nil {
			callback.Try(func() { failed = until() != nil })
		}
	})
}
