package benchmarks

import (
	"encoding/binary"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// boltQueue keeps each message under its number in one bucket of a bbolt database. Pages are filled
// completely, because keys only grow. The list of free pages is not stored, because it can be
// rebuilt.
type boltQueue struct {
	db    *bolt.DB
	at    uint64 // the last message read
	gone  uint64 // the last message deleted
	group *group // nil: db.Batch groups the appends
	keys  [][8]byte
}

var boltBucket = []byte("queue")

func openBolt(dir string) (*boltQueue, error) {
	db, err := bolt.Open(filepath.Join(dir, "queue.db"), 0o600, &bolt.Options{
		NoFreelistSync:  true,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: 1 << 30, // a growing file does not have to wait for its readers
	})
	if err != nil {
		return nil, err
	}
	// Batch waits for this many callers. With fewer callers, each would wait for the delay.
	db.MaxBatchSize, db.MaxBatchDelay = producers, time.Millisecond
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(boltBucket)
		return err
	})
	return &boltQueue{db: db}, err
}

// openBoltBatch uses db.Batch to group the appends.
func openBoltBatch(dir string) (queue, error) { return openBolt(dir) }

// openBoltGroup commits all waiting appends in one Update.
func openBoltGroup(dir string) (queue, error) {
	q, err := openBolt(dir)
	if err != nil {
		return nil, err
	}
	q.group = newGroup(func(packets [][]byte, taken uint64) error {
		if len(packets) == 0 && taken == q.gone {
			return nil
		}
		return q.db.Update(func(tx *bolt.Tx) error {
			for _, p := range packets {
				if err := q.put(tx, p); err != nil {
					return err
				}
			}
			return q.remove(tx, taken)
		})
	})
	return q, nil
}

func (q *boltQueue) Append(packet []byte) error {
	if q.group != nil {
		return q.group.append(packet)
	}
	return q.db.Batch(func(tx *bolt.Tx) error { return q.put(tx, packet) })
}

func (q *boltQueue) put(tx *bolt.Tx, packet []byte) error {
	b := tx.Bucket(boltBucket)
	b.FillPercent = 1
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.Put(binary.BigEndian.AppendUint64(nil, seq), packet)
}

// remove deletes all messages up to taken.
func (q *boltQueue) remove(tx *bolt.Tx, taken uint64) error {
	if taken == q.gone {
		return nil
	}
	b := tx.Bucket(boltBucket)
	q.keys = q.keys[:0] // deleting invalidates the position of a cursor
	c := b.Cursor()
	for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) <= taken; k, _ = c.Next() {
		q.keys = append(q.keys, [8]byte(k))
	}
	for i := range q.keys {
		if err := b.Delete(q.keys[i][:]); err != nil {
			return err
		}
	}
	q.gone = taken
	return nil
}

func (q *boltQueue) Take(n int, visit func([]byte)) (int, error) {
	taken := 0
	err := q.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(boltBucket).Cursor()
		after := binary.BigEndian.AppendUint64(nil, q.at+1)
		for k, v := c.Seek(after); k != nil && taken < n; k, v = c.Next() {
			visit(v)
			q.at = binary.BigEndian.Uint64(k)
			taken++
		}
		return nil
	})
	if err == nil && q.group != nil {
		q.group.note(q.at)
	} else if err == nil && q.at-q.gone >= maxNoted {
		err = q.Flush()
	}
	return taken, err
}

func (q *boltQueue) Flush() error {
	if q.group != nil {
		return q.group.flush()
	}
	return q.db.Update(func(tx *bolt.Tx) error { return q.remove(tx, q.at) })
}

func (q *boltQueue) Close() error {
	if q.group != nil {
		if err := q.group.close(); err != nil {
			return err
		}
	}
	return q.db.Close()
}
