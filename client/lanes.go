package client

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

// lane handles messages one after the other. Messages of one key are always in
// the same lane.
type lane struct {
	c     *Client
	ctx   context.Context // of the handlers; set by run
	order *ordering.Resequencer[arrival]

	accepting context.Context // ends when stop is called
	stopNow   context.CancelFunc

	mu     sync.Mutex
	queue  []arrival
	direct int // of them at QoS 0
	closed bool
	signal chan struct{}
}

var laneSeed = maphash.MakeSeed()

func (c *Client) makeLanes() {
	c.lanes = make([]*lane, c.cfg.Receiving.Concurrency)
	for i := range c.lanes {
		l := &lane{c: c, signal: make(chan struct{}, 1)}
		l.accepting, l.stopNow = context.WithCancel(context.Background())
		if o := c.cfg.Receiving.Ordering; o != nil {
			opts := o.Options
			told := opts.OnGap
			opts.OnGap = func(g ordering.Gap) {
				c.counters.gaps.Add(1)
				if told != nil {
					told(g)
				}
				publisher, topic := splitStreamKey(g.Key)
				c.event(Gap{Publisher: publisher, Topic: topic, Epoch: g.Epoch, From: g.From, To: g.To})
			}
			l.order = ordering.NewResequencer[arrival](opts)
		}
		c.lanes[i] = l
	}
	if o := c.cfg.Receiving.Ordering; o != nil {
		for _, p := range o.Restore {
			c.laneOf(p.Topic).order.Restore(streamKey(p.Publisher, p.Topic), p.Epoch, p.Seq)
		}
	}
}

func (c *Client) laneOf(key string) *lane {
	return c.lanes[maphash.String(laneSeed, key)%uint64(len(c.lanes))]
}

// push adds a message; false means that it was dropped.
func (l *lane) push(a arrival) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || a.in == nil && l.direct >= l.c.cfg.Receiving.QoS0QueueSize {
		return false
	}
	if a.in == nil {
		l.direct++
	}
	l.queue = append(l.queue, a)
	select {
	case l.signal <- struct{}{}:
	default:
	}
	return true
}

// run handles messages until ctx ends or stop was called. A message that waits
// then is not acknowledged, and comes again.
func (l *lane) run(ctx context.Context) {
	l.ctx = ctx
	var spare []arrival
	gaps := time.NewTimer(time.Hour)
	defer gaps.Stop()
	for {
		gaps.Reset(l.expireGaps())
		select {
		case <-ctx.Done():
			return
		case <-l.accepting.Done():
			return
		case <-gaps.C:
			continue
		case <-l.signal:
		}
		batch := l.take(spare)
		for i := range batch {
			if l.stopped() {
				return
			}
			if a, fresh := l.admit(batch[i]); fresh {
				l.arrange(a)
			}
		}
		clear(batch)
		spare = batch
	}
}

// expireGaps gives up on gaps that are too old and returns when to look again.
func (l *lane) expireGaps() time.Duration {
	if l.order == nil {
		return time.Hour
	}
	next := l.order.Expire(l.handle)
	if next.IsZero() {
		return time.Hour
	}
	return max(0, time.Until(next))
}

func (l *lane) take(spare []arrival) []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.queue
	l.queue, l.direct = spare[:0], 0
	return batch
}

// stop lets the handler that runs finish and takes no more messages. It is
// called once.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.stopNow()
}

// pause waits before the next attempt. It returns false when the lane stops:
// there will be none.
func (l *lane) pause(attempt int) bool {
	timer := time.NewTimer(l.c.cfg.Receiving.HandlerBackoff.Delay(attempt))
	defer timer.Stop()
	select {
	case <-l.ctx.Done():
		return false
	case <-l.accepting.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (l *lane) stopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// streamKey names the messages of one publisher on one topic. NUL cannot be in
// either.
func streamKey(publisher, topic string) string { return publisher + "\x00" + topic }

func splitStreamKey(key string) (publisher, topic string) {
	for i := range len(key) {
		if key[i] == 0 {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}
