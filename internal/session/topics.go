package session

import (
	"hash/maphash"

	"github.com/mooring-mqtt/mooring/internal/fingerprint"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Limits for interned Topic Names of a connection. Above them, each message has its own copy.
const (
	maxTopics     = 1024
	maxTopicBytes = 1 << 20
	// maxAliasBytes limits the total length of the Topic Names of a connection's Topic Aliases, in
	// each direction.
	maxAliasBytes = 16 << 20
)

// topics holds the Topic Names received on a connection.
type topics struct {
	aliases  map[uint16]string
	aliased  int // total length of aliases
	interned map[string]string
	bytes    int // total length of interned
}

// resolve resolves a Topic Alias and interns the Topic Name. maximum is the highest valid alias.
func (t *topics) resolve(v wire.PublishView, maximum uint16) (string, error) {
	if v.TopicAlias > maximum {
		return "", refuse(wire.PUBLISH, wire.ReasonTopicAliasInvalid,
			"Topic Alias is above the Topic Alias Maximum that was announced")
	}
	if len(v.Topic) == 0 {
		topic, ok := t.aliases[v.TopicAlias]
		if !ok {
			return "", wire.Violation(wire.PUBLISH, "Topic Alias was not set before on this connection")
		}
		return topic, nil
	}
	topic, ok := t.interned[string(v.Topic)]
	if !ok {
		topic = string(v.Topic)
		if len(t.interned) < maxTopics && t.bytes+len(topic) <= maxTopicBytes {
			t.bytes += len(topic)
			t.interned[topic] = topic
		}
	}
	if v.TopicAlias != 0 {
		if t.aliased += len(topic) - len(t.aliases[v.TopicAlias]); t.aliased > maxAliasBytes {
			return "", refuse(wire.PUBLISH, wire.ReasonQuotaExceeded, "the Topic Names of Topic Aliases are longer than 16 MiB together")
		}
		t.aliases[v.TopicAlias] = topic
	}
	return topic, nil
}

// fingerprint distinguishes a redelivery from a new message under the same identifier. It covers
// topic, payload and user properties, including the message ID. A server may change the other
// properties between two deliveries. The result is never 0. At QoS 1, fingerprints are compared
// only within this process, so a faster function is used.
func (s *Session) fingerprint(topic string, v wire.PublishView) uint64 {
	if v.QoS == 1 {
		return s.localFingerprint(topic, v)
	}
	h := fingerprint.New(&s.key)
	h.Add([]byte(topic))
	h.Add(v.Payload)
	for p := range v.Properties.All() {
		if p.ID == wire.PropUser {
			h.Add(p.Bytes)
			h.Add(p.Value)
		}
	}
	return h.Sum()
}

// localFingerprint returns a fingerprint that is valid only in this process.
func (s *Session) localFingerprint(topic string, v wire.PublishView) uint64 {
	sum := 31*maphash.String(s.seed, topic) + maphash.Bytes(s.seed, v.Payload)
	for p := range v.Properties.All() {
		if p.ID == wire.PropUser {
			sum = 31*(31*sum+maphash.Bytes(s.seed, p.Bytes)) + maphash.Bytes(s.seed, p.Value)
		}
	}
	return max(sum, 1)
}
