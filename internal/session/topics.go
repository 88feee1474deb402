package session

import (
	"hash/maphash"

	"github.com/mooring-mqtt/mooring/internal/fingerprint"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Interned Topic Names of a connection at most; further messages have a copy of their own.
const (
	maxTopics     = 1024
	maxTopicBytes = 1 << 20
	// maxAliasBytes limits the Topic Names of the Topic Aliases of a connection, in each direction.
	maxAliasBytes = 16 << 20
)

// topics are the Topic Names that were received on a connection.
type topics struct {
	aliases  map[uint16]string
	aliased  int // bytes of aliases
	interned map[string]string
	bytes    int // of interned
}

// resolve resolves a Topic Alias, of which maximum is the highest, and interns the Topic Name.
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

// fingerprint tells a redelivery from a new message under the same identifier: by
// topic, payload and user properties, among them the message ID. A server may change
// the other properties from one delivery to the next. It is never 0. At QoS 1 it is
// compared within this process only, and a faster one will do.
func (s *Session) fingerprint(topic string, v wire.PublishView) uint64 {
	if v.QoS == 1 {
		return s.passing(topic, v)
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

// passing returns a fingerprint that is valid in this process only.
func (s *Session) passing(topic string, v wire.PublishView) uint64 {
	sum := 31*maphash.String(s.seed, topic) + maphash.Bytes(s.seed, v.Payload)
	for p := range v.Properties.All() {
		if p.ID == wire.PropUser {
			sum = 31*(31*sum+maphash.Bytes(s.seed, p.Bytes)) + maphash.Bytes(s.seed, p.Value)
		}
	}
	return max(sum, 1)
}
