package session

import (
	"hash/maphash"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Interned Topic Names of a connection at most; further messages have a copy of their own.
const (
	maxTopics     = 1024
	maxTopicBytes = 1 << 20
)

// topicLocked resolves a Topic Alias and interns the Topic Name.
func (g *Generation) topicLocked(v wire.PublishView) (string, error) {
	if v.TopicAlias > g.s.cfg.TopicAliasMaximum {
		return "", refuse(wire.PUBLISH, wire.ReasonTopicAliasInvalid,
			"Topic Alias is above the Topic Alias Maximum that was announced")
	}
	if len(v.Topic) == 0 {
		topic, ok := g.aliases[v.TopicAlias]
		if !ok {
			return "", wire.Violation(wire.PUBLISH, "Topic Alias was not set before on this connection")
		}
		return topic, nil
	}
	topic, ok := g.topics[string(v.Topic)]
	if !ok {
		topic = string(v.Topic)
		if len(g.topics) < maxTopics && g.topicBytes+len(topic) <= maxTopicBytes {
			g.topicBytes += len(topic)
			g.topics[topic] = topic
		}
	}
	if v.TopicAlias != 0 {
		g.aliases[v.TopicAlias] = topic
	}
	return topic, nil
}

// fingerprint tells a redelivery from a new message under the same identifier: by
// topic, payload and user properties, among them the message ID. A server may change
// the other properties from one delivery to the next. It is never 0.
func (s *Session) fingerprint(topic string, v wire.PublishView) uint64 {
	sum := 31*maphash.String(s.seed, topic) + maphash.Bytes(s.seed, v.Payload)
	for p := range v.Properties.All() {
		if p.ID == wire.PropUser {
			sum = 31*(31*sum+maphash.Bytes(s.seed, p.Bytes)) + maphash.Bytes(s.seed, p.Value)
		}
	}
	return max(sum, 1)
}
