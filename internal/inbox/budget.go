package inbox

import (
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// budget bounds the bytes of received messages: in queues, with handlers and held for order, from
// any connection. Each change costs one atomic addition and no lock, because only the reader of the
// connection takes bytes.
//
// If a QoS 1 or 2 message has no room, the reader stalls. Handlers may then wait for
// acknowledgements that the reader has not reached. So if there is no room within StallTimeout, the
// reader continues and leaves all further messages of this connection to the server, unacknowledged
// and in order. When half of the budget is free, the inbox ends the connection, and the server
// sends these messages again on the next one. The inbox also ends the connection after another
// StallTimeout, to show the server that this client does not keep up. It does so only once until
// half of the budget is free, so that a hanging handler does not cause one reconnect after another.
// Drain and Close leave messages to the server in the same way, for the next client.
type budget struct {
	limit   int64
	used    *atomic.Int64
	freed   notify.Signal
	watched atomic.Bool // free sets freed and checks whether a connection must end
	closing atomic.Bool // StopStalling was called

	leaving  atomic.Pointer[Conn] // the connection whose messages are left to the server
	fetching atomic.Pointer[Conn] // the same connection, until the inbox ends it
	overdue  atomic.Bool          // a connection was ended for lack of room; no other is until half is free
}

// Conn is the connection from which messages arrive. It is a session.Writer that can stall its
// reader until ready returns true, the limit has passed, or the connection ends. Stall calls ready
// at once and each time wake is set.
type Conn interface {
	session.Writer
	Stall(limit time.Duration, wake <-chan struct{}, ready func() bool) bool
}

const (
	itemBytes         = 320 // of an Item and its message, without the content of the packet
	userPropertyBytes = 32  // of a user property, without its text
)

// Size estimates the memory that a message takes, in bytes.
func Size(topic string, v wire.PublishView) int64 {
	size := itemBytes + len(topic) + len(v.Payload) + len(v.Properties)
	for props := v.Properties; ; {
		p, ok := props.Next()
		if !ok {
			return int64(size)
		}
		switch p.ID {
		case wire.PropUser:
			size += userPropertyBytes
		case wire.PropCorrelationData:
			size += len(p.Bytes)
		case wire.PropSubscriptionID:
			size += 8
		}
	}
}

// take takes bytes if there is room. A single message always has room. Only the reader calls take,
// so the sum never exceeds the limit.
func (q *budget) take(size int64) bool {
	if used := q.used.Load(); used > 0 && used+size > q.limit {
		return false
	}
	q.used.Add(size)
	return true
}

// reserve takes the bytes of a message or waits for room. If it returns false, a QoS 0 message is
// dropped, and another message was left to the server.
func (b *Inbox[M]) reserve(in *session.Inbound, size int64) bool {
	q := &b.budget
	left := q.leaving.Load()
	switch {
	case (in == nil || left == nil) && q.take(size):
		return true
	case in == nil:
		b.Counters.Received.Add(1)
		return false
	}
	conn := b.cfg.Session.WriterOf(in).(Conn)
	if left != nil && *left == conn {
		b.cfg.Session.Leave(in)
		return false
	}
	q.leaving.Store(nil) // an earlier connection
	q.fetching.Store(nil)
	return b.stall(conn, in, size)
}

// stall waits until a QoS 1 or 2 message has room. If there is none in time, this message and all
// later messages of the connection are left to the server.
func (b *Inbox[M]) stall(conn Conn, in *session.Inbound, size int64) bool {
	q := &b.budget
	taken := false
	ready := func() bool {
		q.watched.Store(true) // before take, so that no free is missed
		taken = q.take(size)
		return taken || q.closing.Load()
	}
	if !ready() {
		b.Counters.Stalls.Add(1)
		b.cfg.Observer.Stalled(q.used.Load(), false)
		conn.Stall(b.cfg.StallTimeout, q.freed, ready)
	}
	if taken {
		q.watched.Store(false)
		return true
	}
	b.cfg.Session.Leave(in)
	left := &conn
	q.leaving.Store(left)
	if !q.closing.Load() {
		b.cfg.Observer.Stalled(q.used.Load(), true)
		q.fetching.Store(left)
		time.AfterFunc(b.cfg.StallTimeout, func() { b.endOverdue(left) })
		b.fetch()
	}
	return false
}

// endOverdue ends a connection whose messages are left to the server, if handlers have not freed
// room in time.
func (b *Inbox[M]) endOverdue(left *Conn) {
	q := &b.budget
	if q.fetching.Load() != left || q.overdue.Swap(true) {
		return
	}
	if q.fetching.CompareAndSwap(left, nil) {
		b.cfg.Session.EndAfterAcks(*left, b.cfg.Full)
	}
}

// free returns the bytes of a finished message.
func (b *Inbox[M]) free(size int64) {
	b.budget.used.Add(-size)
	if b.budget.watched.Load() {
		b.budget.freed.Set()
		b.fetch()
	}
}

// fetch ends the connection whose messages were left to the server, when half of the budget is
// free. The server sends them again on the next connection.
func (b *Inbox[M]) fetch() {
	q := &b.budget
	if q.used.Load() > q.limit/2 {
		return
	}
	q.overdue.Store(false)
	if left := q.fetching.Swap(nil); left != nil {
		b.cfg.Session.EndAfterAcks(*left, b.cfg.Full)
	}
}

// StopStalling ends a stall and prevents further ones, because the inbox is about to end. Messages
// without room are left to the server, and the reader continues with the following packets.
func (b *Inbox[M]) StopStalling() {
	b.budget.closing.Store(true)
	b.budget.fetching.Store(nil)
	b.budget.freed.Set()
}

const (
	watchEvery = 5 * time.Second  // interval of the checks of the oldest message, and its minimum age for a report
	againAfter = 30 * time.Second // interval of reports on the same message
)

// window checks the oldest unacknowledged message while there is one.
type window struct {
	session *session.Session
	report  func(HeldUp)
	armed   atomic.Bool
	stopped atomic.Bool
	timer   *time.Timer

	reported *session.Inbound // used by the timer only
	at       time.Time
}

func (q *window) init(s *session.Session, report func(HeldUp)) {
	q.session, q.report = s, report
	q.timer = time.AfterFunc(time.Hour, q.look)
	q.timer.Stop()
}

// watch starts the checks of the oldest message.
func (q *window) watch() {
	if !q.armed.Load() && !q.armed.Swap(true) {
		q.timer.Reset(watchEvery)
	}
}

// look reports a message that blocks the receive window.
func (q *window) look() {
	oldest, full, ok := q.session.Oldest()
	if !ok {
		q.reported = nil
		q.armed.Store(false) // the next message arms it; check for one that arrived meanwhile
		if _, _, ok = q.session.Oldest(); !ok || q.armed.Swap(true) {
			return
		}
	}
	if q.stopped.Load() {
		return
	}
	if now := time.Now(); oldest != nil && full && now.Sub(oldest.Received) >= watchEvery && (q.reported != oldest || now.Sub(q.at) >= againAfter) {
		q.reported, q.at = oldest, now
		q.report(HeldUp{Topic: oldest.Topic, Since: oldest.Received, Attempts: int(oldest.Failures.Load()), Behind: q.session.Behind(oldest)})
	}
	q.timer.Reset(watchEvery)
}

func (q *window) stop() {
	q.stopped.Store(true)
	q.timer.Stop()
}
