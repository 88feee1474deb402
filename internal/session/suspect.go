package session

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// suspects are the topics of unstored messages over which connections may have ended: a server may
// answer a forbidden PUBLISH by closing the connection. After limit connections in a row the
// messages of the topic are deferred, so that other messages flow. Then a message of the topic is
// tried alone, after another message was acknowledged on the connection.
type suspects struct {
	limit  int // 0: nothing is deferred
	topics map[string]*suspect
}

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

// deferred returns the suspect of a topic that is deferred; nil: it is not.
func (s *suspects) deferred(topic string) *suspect {
	x := s.topics[topic]
	if x == nil || s.limit == 0 || x.connections < s.limit {
		return nil
	}
	return x
}

// blame notes that a connection has ended while a message of topic was unacknowledged. A link that
// breaks at that moment costs the topic a delay.
func (s *suspects) blame(topic string) {
	x := s.topics[topic]
	if x == nil {
		x = &suspect{}
		s.topics[topic] = x
	}
	x.connections++
	if over := x.connections - s.limit; over >= 0 {
		x.retry = time.Now().Add(min(deferMin<<min(over, 16), deferMax))
	}
}

// mayTry returns nil if a message of a deferred topic may be sent now: not first on a connection
// where others wait. The connection is up since begun; acked is how many stored messages were
// acknowledged on it.
func (x *suspect) mayTry(topic string, begun time.Time, acked uint64, inFlight int) error {
	now, retry := time.Now(), x.retry
	if acked == 0 {
		if idle := begun.Add(deferIdle); idle.After(retry) {
			retry = idle
		}
	}
	if now.Before(retry) || acked == 0 && inFlight > 0 {
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
