package outbox

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// blame decides which refusals count as failures for the breaker. The breaker is about the server,
// not about a topic. So each topic counts once, and no topic counts while the server accepts
// messages. The send loop looks at refusals after acknowledgements have been counted, so it cannot
// know their order. Only the send loop uses the fields, except accepted.
type blame struct {
	accepted atomic.Bool     // the server has accepted a message since the last look
	lately   bool            // value of accepted at the last look
	at       time.Time       // time of the last look at which lately was true, by the store's clock
	topics   map[uint64]bool // hashes of the topics that have already counted
}

// answered records that the server has accepted or refused a message. It runs on the goroutine that
// reads.
func (o *Outbox) answered(accepted bool) {
	o.window.Answered(accepted, 1<<16)
	if accepted && !o.blame.accepted.Load() {
		o.blame.accepted.Store(true)
	}
}

// look begins a look at the received refusals. It forgets the topics that have counted only if the
// breaker is closed. Otherwise topics that are still refused would reopen the breaker.
func (b *blame) look(now time.Time, closed func() bool) {
	if b.lately = b.accepted.Swap(false); b.lately {
		if b.at = now; closed() {
			clear(b.topics)
		}
	}
}

// counts reports whether the refusal of a topic is a failure. since is the time of the first
// refusal of the message.
func (b *blame) counts(topic string, since time.Time) bool {
	hash := maphash.String(topicSeed, topic)
	if b.lately || b.at.After(since) || b.topics[hash] {
		return false
	}
	if b.topics == nil || len(b.topics) >= maxGiven {
		b.topics = map[uint64]bool{}
	}
	b.topics[hash] = true
	return true
}
