package client

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

const (
	noExpiry   = math.MaxInt64
	expireStep = 512 // messages that are looked at between two looks at the rest of the drainer's work
	expireRest = int64(100 * time.Millisecond)
)

// ageing ends messages whose time is over while they wait, connected or not, so
// that they take no room and whoever awaits them is told. It knows when the first
// of them may be over; then the drainer walks through the store once, and learns
// when the next may be. All but due is the drainer's.
type ageing struct {
	due    atomic.Int64  // nothing that waits is over before, by Client.clock
	maxAge time.Duration // of the store; 0: none, or not known

	timer   *time.Timer
	armed   int64 // what the timer is set to
	rest    int64 // no walk before: walks take a twentieth of the time at most
	walking bool
	began   int64
	place   persistence.Cursor
	entry   persistence.Entry
}

// init is for a store in which something waits, or nothing.
func (x *ageing) init(maxAge time.Duration, waiting bool) {
	x.maxAge = maxAge
	x.timer, x.armed = time.NewTimer(time.Hour), noExpiry
	x.timer.Stop()
	if !waiting {
		x.due.Store(noExpiry)
	}
}

// by notes that some message may be over then.
func (x *ageing) by(at int64) {
	for {
		due := x.due.Load()
		if at >= due || x.due.CompareAndSwap(due, at) {
			return
		}
	}
}

// expires notes when a message that was accepted just now is over.
func (c *Client) expires(m *Message) {
	life := m.Expiry
	if most := c.ageing.maxAge; most > 0 && (life == 0 || life > most) {
		life = most
	}
	if life > 0 {
		c.ageing.by(c.clock.since() + min(int64(life), noExpiry/2))
	}
}

// expire does the next step of a walk, or sees to it that the next walk begins in
// time.
func (c *Client) expire() {
	x := &c.ageing
	now := c.clock.since()
	if !x.walking {
		if at := max(x.due.Load(), x.rest); at > now {
			x.arm(at, now)
			return
		}
		x.due.Store(noExpiry) // what is accepted from here on lowers it again
		x.walking, x.began, x.place = true, now, persistence.Cursor{}
	}
	store := c.store.Now() // the clock that counts
	now = c.clock.since()
	for range expireStep {
		ok, err := c.store.Next(&x.place, &x.entry)
		if !ok {
			if err != nil {
				c.storeFailed(err)
				x.by(now + int64(storeRetry))
			}
			x.walking = false
			break
		}
		x.place.Pass(&x.entry)
		if e := &x.entry; !e.Expires.IsZero() && c.feed.canExpire(e) && !c.mayFail(e) {
			if left := e.Expires.Sub(store); left > 0 {
				x.by(now + min(int64(left), noExpiry/2))
			} else {
				c.giveUpExpired(e)
			}
		}
	}
	now = c.clock.since()
	if x.walking {
		x.armed = now
		x.timer.Reset(0)
		return
	}
	x.rest = now + max(20*(now-x.began), expireRest)
	x.arm(max(x.due.Load(), x.rest), now)
}

func (x *ageing) arm(at, now int64) {
	if at == x.armed {
		return
	}
	x.armed = at
	if at == noExpiry {
		x.timer.Stop()
		return
	}
	x.timer.Reset(time.Duration(at - now))
}

// canExpire says whether a message may be given up for its age. Once sent, none is:
// it is resent [MQTT-4.4.0-1] [MQTT-4.3.3-7]. What an earlier process may have sent
// counts as sent at QoS 2, where giving up is wrong, and not at QoS 1, where being
// late is.
func (f *feed) canExpire(e *persistence.Entry) bool {
	l := &f.lines[e.Priority]
	exactly := e.Packet[0]>>1&3 == 2
	return !e.Released && e.Number > l.sent && !(exactly && e.Number <= l.before)
}

// mayFail says of what an earlier process may have sent whether it fails where the
// server has lost the session. CONNACK tells, and until then nobody may give it up
// for its age: it would be told of twice, by two goroutines. If it is resumed the
// message ends when its turn comes.
func (c *Client) mayFail(e *persistence.Entry) bool {
	return e.Seq <= c.pending.before && e.Number <= c.feed.lines[e.Priority].before && c.failsInFlight(e)
}

func (c *Client) giveUpExpired(e *persistence.Entry) {
	c.giveUp(e.Seq, persistence.Result{Kind: persistence.Expired}, Outcome{State: Expired, Err: &ExpiredError{ID: e.ID}}, e.ID)
}
