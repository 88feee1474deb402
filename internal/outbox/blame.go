package outbox

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// blame decides which refusals are failures for the breaker. That is about the server, not about a
// topic: a topic counts once, and not at all while the server accepts messages. The send loop looks at
// refusals later than acknowledgements are counted, so it cannot tell their order. All but accepted
// belongs to the send loop.
type blame struct {
	accepted atomic.Bool     // the server has accepted a message since the last look
	lately   bool            // it had at the last look
	at       time.Time       // the last look at which it had, by the store's clock
	topics   map[uint64]bool // hashes of those that count already
}

// answered notes an answer of the server to a message. It runs on the goroutine that reads.
func (o *Outbox) answered(accepted bool) {
	o.window.Answered(accepted, 1<<16)
	if accepted && !o.blame.accepted.Load() {
		o.blame.accepted.Store(true)
	}
}

// look begins to look at refusals that were received. While the breaker is not closed, it goes on trying
// although topics are refused that count already.
func (b *blame) look(now time.Time, closed func() bool) {
	if b.lately = b.accepted.Swap(false); b.lately {
		if b.at = now; closed() {
			clear(b.topics)
		}
	}
}

// counts reports whether the refusal of a topic is a failure. since is when it was refused first.
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
