package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Will is the Will Message with all properties of MQTT 5. docs/will.md describes when a server
// publishes it. To publish presence on a topic, use PresenceConfig.Status.
type Will struct {
	Topic           string         // topic name, without wildcards; required
	Payload         []byte         // up to 65,535 bytes; default: empty
	QoS             QoS            // QoS of the message that the server publishes; default AtMostOnce
	Retain          bool           // the server keeps the message for later subscribers
	Delay           time.Duration  // Will Delay Interval, rounded up to seconds; default 0: no delay
	Expiry          time.Duration  // lifetime after publication, rounded up to seconds; default 0: never expires
	ContentType     string         // description of the payload; default: none
	ResponseTopic   string         // topic for a response; default: none
	CorrelationData []byte         // identifies the will in a response; default: none
	PayloadIsUTF8   bool           // Payload Format Indicator
	UserProperties  []UserProperty // properties of the application; default: none
}

// packet returns the PUBLISH that the server will send.
func (w *Will) packet() wire.Publish {
	m := Message{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Expiry: w.Expiry,
		ContentType: w.ContentType, ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData,
		PayloadIsUTF8: w.PayloadIsUTF8, UserProperties: w.UserProperties}
	return m.packet()
}

// properties returns the encoded Will Properties. paho.golang omits most of them, so the link
// inserts them into CONNECT.
func (w *Will) properties() []byte {
	var dst []byte
	if w.Delay > 0 {
		dst = wire.AppendProperty(dst, wire.Property{ID: wire.PropWillDelay, Int: wire.Seconds(w.Delay)})
	}
	p := w.packet()
	return p.AppendProperties(dst)
}
