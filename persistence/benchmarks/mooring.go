package benchmarks

import "github.com/mooring-mqtt/mooring/persistence"

// mooringQueue is the log of this module with its defaults: an fsync before each Append returns,
// and done records that are written with the next commit.
type mooringQueue struct {
	log *persistence.Log
	at  persistence.Cursor
	e   persistence.Entry
}

func openMooring(dir string) (queue, error) {
	log, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		return nil, err
	}
	return &mooringQueue{log: log}, nil
}

func (q *mooringQueue) Append(packet []byte) error {
	_, err := persistence.Append(q.log, &persistence.Message{Packet: packet})
	return err
}

// next reads the following message.
func (q *mooringQueue) next() (bool, error) {
	ok, err := q.log.Next(&q.at, &q.e)
	if ok {
		q.at.Pass(&q.e)
	}
	return ok, err
}

func (q *mooringQueue) Take(n int, visit func([]byte)) (int, error) {
	for taken := range n {
		ok, err := q.next()
		if !ok || err != nil {
			return taken, err
		}
		visit(q.e.Packet)
		if err := q.log.Done(q.e.Seq, persistence.Result{Kind: persistence.Acked}); err != nil {
			return taken, err
		}
	}
	return n, nil
}

func (q *mooringQueue) Flush() error { return q.log.Sync() }
func (q *mooringQueue) Close() error { return q.log.Close() }
