package session

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// candidates holds the topics of unstored messages that may have caused connections to end. A
// server may answer a forbidden PUBLISH by closing the connection. After limit consecutive
// connections, the messages of a topic are deferred, so that other messages can be sent. Then a
// message of the topic is tried alone, after another message was acknowledged on the connection.
type candidates struct {
	limit  int // 0: no topic is deferred
	topics map[string]*candidate
}

type candidate struct {
	connections int       // consecutive connections that ended while a message of the topic was unacknowledged
	retry       time.Time // earliest time to send a deferred message
}

const (
	deferMin, deferMax = time.Second, 5 * time.Minute // delay between attempts of a deferred topic
	// deferIdle is how long a connection without messages in flight must have been up before a
	// deferred message is tried on it. Until then, stored messages may still wait for
	// subscriptions.
	deferIdle = 2 * time.Second
)

// DeferredError reports that an unstored message is not sent now, because connections have ended
// while a message of its topic was unacknowledged.
type DeferredError struct {
	Topic       string
	Connections int       // consecutive connections that ended while a message of the topic was unacknowledged
	Retry       time.Time // a later call may succeed
}

func (e *DeferredError) Error() string {
	return fmt.Sprintf("mqtt: the last %d connections with a message on topic %q ended before its acknowledgement; it is deferred and tried again", e.Connections, e.Topic)
}

// SafeToRetry returns true, because the message was not sent.
func (*DeferredError) SafeToRetry() bool { return true }

// deferred returns the candidate of a deferred topic, or nil if the topic is not deferred.
func (s *candidates) deferred(topic string) *candidate {
	x := s.topics[topic]
	if x == nil || s.limit == 0 || x.connections < s.limit {
		return nil
	}
	return x
}

// blame records that a connection has ended while a message of topic was unacknowledged. If a link
// breaks by chance at that moment, that costs the topic a delay.
func (s *candidates) blame(topic string) {
	x := s.topics[topic]
	if x == nil {
		x = &candidate{}
		s.topics[topic] = x
	}
	x.connections++
	if over := x.connections - s.limit; over >= 0 {
		x.retry = time.Now().Add(min(deferMin<<min(over, 16), deferMax))
	}
}

// mayTry returns nil if a message of a deferred topic may be sent now. It must not be the first
// message on a connection while others wait. begun is when the connection came up, and acked is the
// number of stored messages acknowledged on it.
func (x *candidate) mayTry(topic string, begun time.Time, acked uint64, inFlight int) error {
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
