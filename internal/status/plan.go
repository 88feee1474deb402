package status

import (
	"bytes"
	"math"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// plan decides what is published on the status topic, and when. It bases the decision on the
// published messages, the server's answers, and the messages received on the topic. It publishes
// nothing itself. On each connection at most one message is unanswered, in addition to the offline
// message. Times count from the start of the Publisher. No other lock is taken while mu is held, so
// the reader of a connection may call the plan.
type plan struct {
	heartbeat time.Duration // 0: no heartbeats

	mu    sync.Mutex
	ended bool
	open  map[uint64]*message // sent and unanswered, on this or an earlier connection
	last  *message            // the last message that was sent
	count uint64

	born    bool          // the server has accepted a message on this connection
	retryAt time.Duration // for a birth that the server did not accept; 0: never
	delay   time.Duration // delay before the last retry
	put     bool          // a deferred message was reported on this connection
	beatAt  time.Duration // time of the next heartbeat

	echoed      bool          // a message of this client was received on this connection
	wrong       bool          // the last received message is offline
	wrongAt     time.Duration // when wrong became true
	correctedAt time.Duration
	pace        time.Duration // minimum time between two corrections; 0: there was none recently
	contested   bool          // contested was ever reported
	contestedAt time.Duration

	stats Stats
}

// Stats counts messages published and received on the status topic.
type Stats struct {
	Births      uint64 // messages published because of a CONNACK
	Heartbeats  uint64
	Skipped     uint64 // heartbeats omitted because there was no room
	Corrections uint64 // messages published because another client published offline
	Failed      uint64 // messages that were not sent, deferred, or refused by the server
	Contested   uint64 // online messages of other processes, received while this client is online
}

type message struct {
	number  uint64
	reason  string
	payload []byte
	at      time.Duration
}

const (
	// correctionGrace is how long an offline message stays before it is corrected. An offline
	// message that was sent when the birth was published precedes the birth.
	correctionGrace = 250 * time.Millisecond
	// Two corrections are at least correctionMin apart. The interval grows by a factor of two with
	// each correction, up to correctionMax. An offline message that arrives correctionMax after the
	// last correction resets the interval.
	correctionMin, correctionMax = time.Second, time.Minute
	// A birth that the server refuses is retried after retryMin. The delay grows by a factor of two
	// with each retry, up to retryMax. The server may accept it later.
	retryMin, retryMax = time.Second, time.Minute

	contestedEvery = time.Minute // minimum time between two reports of contested
	// If an unacknowledged birth is younger than birthFresh, the next connection resends it instead
	// of publishing a new one. The same applies to any message while maxOpen messages are
	// unacknowledged. Otherwise messages would accumulate on an unstable link.
	birthFresh = time.Minute
	maxOpen    = 4

	never = time.Duration(math.MaxInt64)
)

func newPlan(heartbeat time.Duration) *plan {
	return &plan{heartbeat: heartbeat, open: map[uint64]*message{}}
}

// connected starts a connection. Messages received on the last connection no longer count, and a
// birth is due.
func (p *plan) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.born, p.echoed, p.wrong, p.retryAt, p.delay, p.put = false, false, false, 0, 0, false
}

func (p *plan) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// next returns the reason of the message that is due now, or "" and the time to wait.
func (p *plan) next(now time.Duration) (reason string, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := never
	switch {
	case p.ended:
	case !p.born && p.retryAt > 0:
		reason, at = presence.ReasonBirth, p.retryAt
	case p.born:
		if p.wrong && len(p.open) == 0 {
			reason, at = presence.ReasonCorrection, p.wrongAt+correctionGrace
			if p.pace > 0 {
				at = max(at, p.correctedAt+p.pace)
			}
		}
		if p.heartbeat > 0 {
			for p.beatAt <= now && len(p.open) > 0 {
				p.stats.Skipped++
				p.beatAt += p.heartbeat
			}
			if p.beatAt < at {
				reason, at = presence.ReasonHeartbeat, p.beatAt
			}
		}
	}
	if at > now {
		return "", at - now
	}
	return reason, 0
}

// publish records a message that is about to be published, or returns nil if the plan has ended.
// payload creates a new message.
func (p *plan) publish(now time.Duration, reason string, payload func() []byte) *message {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	m := &message{reason: reason, at: now}
	if last := p.last; last != nil && p.open[last.number] == last &&
		(len(p.open) >= maxOpen || last.reason == presence.ReasonBirth && reason == last.reason && now-last.at < birthFresh) {
		m.payload, m.at = last.payload, last.at
	} else {
		m.payload = payload()
	}
	if p.last != nil && bytes.Equal(m.payload, p.last.payload) {
		delete(p.open, p.last.number) // the session sends identical messages once and answers the newer one
	}
	p.count++
	m.number = p.count
	p.open[m.number], p.last = m, m
	p.retryAt, p.beatAt = 0, now+p.heartbeat
	*p.published(reason)++
	if reason == presence.ReasonCorrection {
		p.pace, p.correctedAt = min(max(correctionMin, 2*p.pace), correctionMax), now
	}
	return m
}

// published returns the counter for messages with this reason.
func (p *plan) published(reason string) *uint64 {
	switch reason {
	case presence.ReasonHeartbeat:
		return &p.stats.Heartbeats
	case presence.ReasonCorrection:
		return &p.stats.Corrections
	}
	return &p.stats.Births
}

// unsent records that a message was not sent. retry means that a later attempt may succeed. unsent
// returns true if the failure must be reported. A heartbeat without room is not reported.
func (p *plan) unsent(now time.Duration, m *message, retry bool) (report bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, m.number)
	*p.published(m.reason)--
	if m.reason == presence.ReasonHeartbeat && retry {
		p.stats.Skipped++
		return false
	}
	p.failedLocked(now, m, retry)
	return true
}

// deferred records that a message may only be sent later, at the time at. It returns true if that
// must be reported, which is once per connection.
func (p *plan) deferred(m *message, at time.Duration) (report bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, m.number)
	*p.published(m.reason)--
	p.retryAt = at
	if report = !p.put; report {
		p.put = true
		p.stats.Failed++
	}
	return report
}

// accepted records that the server has accepted the message.
func (p *plan) accepted(m *message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[m.number] != m {
		return
	}
	delete(p.open, m.number)
	if m == p.last {
		p.born = true
		if m.at >= p.wrongAt {
			p.wrong = false // the message was published after the offline message
		}
	}
}

// refused records that the server has refused the message. It may accept the message later.
func (p *plan) refused(now time.Duration, m *message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[m.number] == m {
		delete(p.open, m.number)
		p.failedLocked(now, m, true)
	}
}

func (p *plan) failedLocked(now time.Duration, m *message, retry bool) {
	p.stats.Failed++
	if m == p.last && retry {
		p.delay = min(max(retryMin, 2*p.delay), retryMax)
		p.retryAt = now + p.delay
	}
}

// forgotten records that a message will not be answered. It was lost with the server's session,
// deferred with its topic, or not sent before the connection ended. A birth follows.
func (p *plan) forgotten(m *message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, m.number)
}

// received handles a message on the topic. own means that this client may have published it.
// received returns true if another process contests the topic and that must be reported.
func (p *plan) received(now time.Duration, state presence.State, own bool) (report bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ended:
	case state == presence.Offline:
		if !p.wrong {
			p.wrong, p.wrongAt = true, now
		}
		if now-p.correctedAt >= correctionMax {
			p.pace = 0
		}
	case own:
		p.echoed, p.wrong = true, false
	default:
		p.wrong = false // the topic is online, whichever process published it
		if !p.echoed {
			return false // it precedes the birth
		}
		p.stats.Contested++
		if p.contested && now-p.contestedAt < contestedEvery {
			return false
		}
		p.contested, p.contestedAt = true, now
		return true
	}
	return false
}

func (p *plan) snapshot() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
