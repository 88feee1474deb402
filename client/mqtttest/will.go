package mqtttest

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func newWill(w *control.Will) *will {
	if w == nil {
		return nil
	}
	return &will{topic: w.Topic, payload: w.Payload, properties: w.Properties, qos: w.QoS, retain: w.Retain, delay: w.Delay}
}

// publishWill publishes the will of s, if any, and removes it from the session [MQTT-3.1.2-10]. The
// caller records the session in the journal.
func (b *Broker) publishWill(s *session) {
	w := s.will
	if w == nil {
		return
	}
	b.stop(s.willDue)
	s.will = nil
	m := &message{topic: w.topic, payload: w.payload, qos: w.qos, retain: w.retain}
	m.props, m.expires = onward(w.properties)
	b.stats.WillsPublished++
	if b.publish(m, s.clientID) == wire.ReasonQuotaExceeded {
		b.opts.Logger.Warn("will not published: too many retained topics", "client", s.clientID, "topic", w.topic)
	}
}

// resume prepares s for a new connection of its client: it stops the timers of the will and of the
// session's end [MQTT-3.1.3-9].
func (s *session) resume() {
	s.b.stop(s.willDue)
	s.b.stop(s.endsWith)
	s.willDue, s.endsWith, s.will, s.lostAt = nil, nil, nil, time.Time{}
}
