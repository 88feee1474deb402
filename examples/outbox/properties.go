package main

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// fate describes the state of a message.
func (t *tool) fate(m *message) string {
	state := m.state()
	switch state {
	case "pending":
		return "pending: waits to be sent or to be acknowledged"
	case "released":
		return "released: the server has the message (PUBREC), PUBCOMP is missing"
	case "dead":
		state = "dead: the server does not accept it; kept for inspection"
	}
	if m.Result.Kind == persistence.Refused || m.Result.Reason != 0 {
		state += fmt.Sprintf(", reason code 0x%02x", m.Result.Reason)
	}
	if !m.Ended.IsZero() {
		state += ", " + t.moment(m.Ended)
	}
	return state
}

// properties prints the header of a PUBLISH.
func properties(p *wire.Publish, line func(name, format string, args ...any)) {
	line("topic", "%s", safe(p.Topic))
	line("QoS", "%d", p.QoS)
	line("retain", "%v", p.Retain)
	if p.HasExpiry {
		line("message expiry", "%s from acceptance", time.Duration(p.MessageExpiry)*time.Second)
	}
	if p.PayloadFormat != 0 {
		line("payload format", "UTF-8")
	}
	if p.TopicAlias != 0 {
		line("topic alias", "%d", p.TopicAlias)
	}
	if p.ContentType != "" {
		line("content type", "%s", safe(p.ContentType))
	}
	if p.ResponseTopic != "" {
		line("response topic", "%s", safe(p.ResponseTopic))
	}
	if p.CorrelationData != nil {
		text := hex.EncodeToString(p.CorrelationData)
		if readable(p.CorrelationData) {
			text = safe(string(p.CorrelationData))
		}
		line("correlation", "%s", text)
	}
	for _, id := range p.SubscriptionIDs {
		line("subscription", "%d", id)
	}
	for _, u := range p.User {
		line("user property", "%s = %s", safe(u.Key), safe(u.Value))
	}
}
