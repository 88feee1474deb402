package client

import (
	"bytes"
	"math"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// statusPlan decides what is to be said on the status topic, and when. It knows
// what was said, what the server answered, and what was heard on the topic since;
// it sends nothing itself. At most one word of a connection is without an answer,
// except the goodbye. Times are those of the client's clock. Its lock is a leaf,
// so the reader of a connection may tell it things.
type statusPlan struct {
	heartbeat time.Duration // 0: none

	mu    sync.Mutex
	left  bool                 // nothing is to be said any more
	open  map[uint64]*saidWord // sent and not answered, on this connection or an earlier one
	last  *saidWord            // the newest that was sent
	count uint64

	born    bool          // the server has taken a word on this connection
	retryAt time.Duration // of a birth that it did not take; 0: not to be tried again
	delay   time.Duration // that was waited before the last retry
	beatAt  time.Duration // the next heartbeat

	echoed      bool          // a word of ours was heard on this connection
	wrong       bool          // the last that was heard is offline
	wrongAt     time.Duration // since when
	correctedAt time.Duration
	pace        time.Duration // the least time to the next correction; 0: none was made lately
	contested   bool          // was ever told
	contestedAt time.Duration

	stats StatusStats
}

// StatusStats counts what was said and heard on the status topic.
type StatusStats struct {
	Births      uint64 // words that were sent because of a CONNACK
	Heartbeats  uint64
	Skipped     uint64 // heartbeats left out because the link had no room
	Corrections uint64 // words that were sent because someone said offline
	Failed      uint64 // words that the server did not take, or could not be sent
	Contested   uint64 // words online of someone else, heard while we are online
}

// saidWord is one status message of ours.
type saidWord struct {
	number  uint64
	reason  string
	payload []byte
	at      time.Duration
}

const (
	// correctionGrace is how long an offline may stand before it is corrected.
	// Where one was on its way to us when we were born, the birth comes behind it.
	correctionGrace = 250 * time.Millisecond
	// Corrections are correctionMin apart; each makes it twice as much, up to
	// correctionMax, and so much time between one and the next offline makes it
	// correctionMin again.
	correctionMin = time.Second
	correctionMax = time.Minute
	// A word that the server refuses for now is tried again after retryMin, and
	// twice as long each time, up to retryMax.
	retryMin = time.Second
	retryMax = time.Minute
	// contestedEvery is the least time between two StatusContested events.
	contestedEvery = time.Minute
	// A birth that is not acknowledged and younger than birthFresh stands for the
	// next one, whose connection sends it again; and so does any word where
	// maxOpenWords are not acknowledged. They would pile up over a link that flaps.
	birthFresh   = time.Minute
	maxOpenWords = 4

	never = time.Duration(math.MaxInt64)
)

func newStatusPlan(heartbeat time.Duration) *statusPlan {
	return &statusPlan{heartbeat: heartbeat, open: map[uint64]*saidWord{}}
}

// connection begins anew: what was heard on the last one says nothing any more,
// and a birth is due.
func (p *statusPlan) connection() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.born, p.echoed, p.wrong, p.retryAt, p.delay = false, false, false, 0, 0
}

// leave ends it.
func (p *statusPlan) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
}

// speaks reports whether there is a word on this connection, or will be.
func (p *statusPlan) speaks() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.left && (p.born || p.retryAt > 0 || len(p.open) > 0)
}

// next is the reason of the word that is due now, or "" and how long to wait.
func (p *statusPlan) next(now time.Duration) (reason string, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := never
	due := func(why string, when time.Duration) {
		if when < at {
			reason, at = why, when
		}
	}
	switch {
	case p.left:
	case !p.born && p.retryAt > 0:
		due(presence.ReasonBirth, p.retryAt)
	case p.born:
		if p.wrong && len(p.open) == 0 {
			due(presence.ReasonCorrection, p.correctionAt())
		}
		if p.heartbeat > 0 && len(p.open) > 0 {
			for p.beatAt <= now {
				p.skipLocked()
			}
		}
		if p.heartbeat > 0 {
			due(presence.ReasonHeartbeat, p.beatAt)
		}
	}
	if at > now {
		return "", at - now
	}
	return reason, 0
}

func (p *statusPlan) correctionAt() time.Duration {
	at := p.wrongAt + correctionGrace
	if p.pace > 0 {
		at = max(at, p.correctedAt+p.pace)
	}
	return at
}

func (p *statusPlan) skipLocked() {
	p.stats.Skipped++
	p.beatAt += p.heartbeat
}

// say notes a word that is about to be sent. payload makes a new one.
func (p *statusPlan) say(now time.Duration, reason string, payload func() []byte) *saidWord {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &saidWord{reason: reason, at: now}
	if last := p.last; last != nil && p.open[last.number] == last &&
		(len(p.open) >= maxOpenWords || last.reason == presence.ReasonBirth && reason == last.reason && now-last.at < birthFresh) {
		w.payload, w.at = last.payload, last.at
	} else {
		w.payload = payload()
	}
	if p.last != nil && bytes.Equal(w.payload, p.last.payload) {
		delete(p.open, p.last.number) // the session takes both for one, and tells the newer
	}
	p.count++
	w.number = p.count
	p.open[w.number], p.last = w, w
	p.retryAt, p.beatAt = 0, now+p.heartbeat
	switch reason {
	case presence.ReasonBirth:
		p.stats.Births++
	case presence.ReasonHeartbeat:
		p.stats.Heartbeats++
	case presence.ReasonCorrection:
		p.stats.Corrections++
		p.pace, p.correctedAt = min(max(correctionMin, 2*p.pace), correctionMax), now
	}
	return w
}

// unsent takes back a word that was not sent. It reports whether that is worth
// telling: that there was no room for a heartbeat is not.
func (p *statusPlan) unsent(now time.Duration, w *saidWord, retry bool) (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, w.number)
	switch w.reason {
	case presence.ReasonBirth:
		p.stats.Births--
	case presence.ReasonCorrection:
		p.stats.Corrections--
	case presence.ReasonHeartbeat:
		p.stats.Heartbeats--
		if retry {
			p.stats.Skipped++
			return false
		}
	}
	p.failedLocked(now, w, retry)
	return true
}

// taken: the server has it.
func (p *statusPlan) taken(w *saidWord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[w.number] != w {
		return
	}
	delete(p.open, w.number)
	if w == p.last {
		p.born = true
		if w.at >= p.wrongAt {
			p.wrong = false // it was said behind the offline that was heard
		}
	}
}

// refused: the server does not take it. retry says that it may do so later.
func (p *statusPlan) refused(now time.Duration, w *saidWord, retry bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[w.number] != w {
		return
	}
	delete(p.open, w.number)
	p.failedLocked(now, w, retry)
}

func (p *statusPlan) failedLocked(now time.Duration, w *saidWord, retry bool) {
	p.stats.Failed++
	if w == p.last && retry && !p.born {
		p.delay = min(max(retryMin, 2*p.delay), retryMax)
		p.retryAt = now + p.delay
	}
}

// forgotten: it went with the server's session. A birth follows.
func (p *statusPlan) forgotten(w *saidWord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, w.number)
}

// voice is who speaks on the status topic.
type voice int

const (
	ours    voice = iota
	another       // with a boot ID that is not ours, or none where ours has one
)

// heard takes a word from the topic. It reports whether it contests ours, and is
// to be told.
func (p *statusPlan) heard(now time.Duration, state presence.State, by voice) (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.left:
	case state == presence.Offline:
		if !p.wrong {
			p.wrong, p.wrongAt = true, now
		}
		if now-p.correctedAt >= correctionMax {
			p.pace = 0
		}
	case by == ours:
		p.echoed, p.wrong = true, false
	default:
		p.wrong = false // whoever it is, the topic says online
		if !p.echoed {
			return false // from before we were born
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

func (p *statusPlan) snapshot() StatusStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}
