package benchmarks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

const (
	// producers is the number of goroutines that append.
	producers = 64
	// packetBytes is the size of a packet.
	packetBytes = 256
	// takeAtOnce is how many messages a consumer asks for.
	takeAtOnce = 1000
)

// packet writes the producer and the number of the message into the first bytes of buf.
func packet(buf []byte, producer, number int) []byte {
	binary.BigEndian.PutUint32(buf, uint32(producer))
	binary.BigEndian.PutUint64(buf[4:], uint64(number))
	return buf
}

// produce appends from this many goroutines until more returns false. It returns the number of
// messages and the time. It sends to woken after each message.
func produce(q queue, goroutines int, more func() bool, woken chan<- struct{}) (int, time.Duration, error) {
	var group sync.WaitGroup
	var total atomic.Int64
	errs := make([]error, goroutines)
	begin := time.Now()
	for p := range goroutines {
		group.Go(func() {
			buf := make([]byte, packetBytes)
			n := 0
			for ; more() && errs[p] == nil; n++ {
				errs[p] = q.Append(packet(buf, p, n+1))
				select {
				case woken <- struct{}{}:
				default:
				}
			}
			total.Add(int64(n))
		})
	}
	group.Wait()
	return int(total.Load()), time.Since(begin), errors.Join(errs...)
}

// upTo returns a function that returns true n times.
func upTo(n int) func() bool {
	var count atomic.Int64
	return func() bool { return count.Add(1) <= int64(n) }
}

// lasting returns a function that returns true for this time.
func lasting(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// checker checks that no message is missing, duplicated or out of order.
type checker struct {
	unordered bool
	last      []uint64 // of each producer
	seen      int
	err       error
}

func (c *checker) visit(p []byte) {
	c.seen++
	if len(p) != packetBytes {
		c.err = fmt.Errorf("a packet of %d bytes", len(p))
		return
	}
	if c.unordered {
		return
	}
	producer, number := int(binary.BigEndian.Uint32(p)), binary.BigEndian.Uint64(p[4:])
	for len(c.last) <= producer {
		c.last = append(c.last, 0)
	}
	if want := c.last[producer] + 1; number != want {
		c.err = fmt.Errorf("producer %d: message %d where %d belongs", producer, number, want)
	}
	c.last[producer] = number
}

// enqueue returns durable appends per second.
func enqueue(q queue, d time.Duration) (float64, error) {
	n, took, err := produce(q, producers, lasting(d), nil)
	return float64(n) / took.Seconds(), err
}

// ceiling returns the upper bound of enqueue with an fsync before each return, in packets per
// second. All producers share each sync, the bytes that are written existed before, and nothing
// else is done.
func ceiling(dir string, d time.Duration) (rate float64, err error) {
	const span = 16 << 20
	f, err := fsys.OS.Create(filepath.Join(dir, "plain"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err = f.WriteAt(make([]byte, span), 0); err == nil {
		err = f.Sync()
	}
	buf := make([]byte, producers*packetBytes)
	n, begin, more := 0, time.Now(), lasting(d)
	for ; more() && err == nil; n += producers {
		if _, err = f.WriteAt(buf, int64(n)*packetBytes%span); err == nil {
			err = f.Sync()
		}
	}
	return float64(n) / time.Since(begin).Seconds(), err
}

// preload fills a queue with n messages, in as few commits as it can.
func preload(q queue, n int) error {
	_, _, err := produce(q, 2000, upTo(n), nil)
	return err
}

// drain takes all n messages, including the last flush. It returns messages per second.
func drain(q queue, n int, unordered bool) (float64, error) {
	c := checker{unordered: unordered}
	begin := time.Now()
	for c.seen < n {
		taken, err := q.Take(takeAtOnce, c.visit)
		if err == nil && taken == 0 {
			err = fmt.Errorf("empty after %d messages of %d", c.seen, n)
		}
		if err = errors.Join(err, c.err); err != nil {
			return 0, err
		}
	}
	if err := q.Flush(); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// mixed appends n messages while one consumer takes them. It returns messages per second, from the
// first append to the last flush.
func mixed(q queue, n int, unordered bool) (float64, error) {
	c := checker{unordered: unordered}
	woken, failed := make(chan struct{}, 1), make(chan error, 1)
	begin := time.Now()
	go func() {
		_, _, err := produce(q, producers, upTo(n), woken)
		failed <- err
	}()
	for c.seen < n {
		taken, err := q.Take(takeAtOnce, c.visit)
		if err = errors.Join(err, c.err); err != nil {
			<-failed
			return 0, err
		}
		if taken == 0 {
			<-woken
		}
	}
	if err := errors.Join(<-failed, q.Flush()); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
