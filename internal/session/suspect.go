package session

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// suspect is a topic of unstored messages over which connections may have ended: a server may
// answer a forbidden PUBLISH by closing the connection. After Config.PoisonAttempts connections in
// a row the messages of the topic are deferred, so that other messages flow. Then a message of the
// topic is tried alone, after another message was acknowledged on the connection.
type suspect struct {
	connections int       // in a row that ended while a message of the topic was unacknowledged
	retry       time.Time // a deferred message is not sent before this time
}

const (
	deferMin, deferMax = time.Second, 5 * time.Minute // from one attempt of a deferred topic to the next
	// deferIdle is how long a connection without messages in flight must have been up before a
	// deferred message is tried on it: stored messages may wait for subscriptions.
	deferIdle = 2 * time.Second
)

// DeferredError: an unstored message is not sent now, because connections have ended over its topic.
type DeferredError struct {
	Topic       string
	Connections int       // in a row that ended while a message of the topic was unacknowledged
	Retry       time.Time // another call may succeed from then on
}

func (e *DeferredError) Error() string {
	return fmt.Sprintf("mqtt: the last %d connections with a message on topic %q ended before its acknowledgement; it is deferred and tried again", e.Connections, e.Topic)
}

// SafeToRetry returns true: the message was not sent.
func (*DeferredError) SafeToRetry() bool { return true }

// deferredLocked returns the suspect of a topic that is deferred; nil: it is not.
func (s *Session) deferredLocked(topic string) *suspect {
	x := s.suspects[topic]
	if x == nil || s.cfg.PoisonAttempts == 0 || x.connections < s.cfg.PoisonAttempts {
		return nil
	}
	return x
}

// blameLocked notes that g ends while unstored messages that were sent on it are unacknowledged.
// The first of them may be the reason. A link that breaks at that moment costs the topic a delay.
func (s *Session) blameLocked(g *Generation) {
	for _, d := range s.unstored {
		if g.flights[uint32(d.id)].unstored != d {
			continue
		}
		x := s.suspects[d.topic]
		if x == nil {
			x = &suspect{}
			s.suspects[d.topic] = x
		}
		x.connections++
		if over := x.connections - s.cfg.PoisonAttempts; over >= 0 {
			x.retry = time.Now().Add(min(deferMin<<min(over, 16), deferMax))
		}
		return
	}
}

// mayTryLocked returns nil if a message of a deferred topic may be sent now: not first on a
// connection where others wait.
func (g *Generation) mayTryLocked(topic string, x *suspect) error {
	now, retry := time.Now(), x.retry
	if g.acked == 0 {
		if idle := g.begun.Add(deferIdle); idle.After(retry) {
			retry = idle
		}
	}
	if now.Before(retry) || g.acked == 0 && len(g.flights) > 0 {
		if soon := now.Add(deferMin); retry.Before(soon) {
			retry = soon
		}
		return &DeferredError{Topic: topic, Connections: x.connections, Retry: retry}
	}
	return nil
}

// topicOf returns the topic of an encoded PUBLISH.
func topicOf(image []byte) string {
	_, n := wire.Varint(image[1:])
	topic, _, _ := wire.String(image[1+n:])
	return string(topic)
}
