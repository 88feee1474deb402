package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Will is the Will Message with all properties of MQTT 5. docs/will.md describes when a server
// publishes it. To publish presence on a topic, use PresenceConfig.Status.
type Will struct {
	Topic           string
	Payload         []byte        // up to 65,535 bytes
	QoS             QoS           // default AtMostOnce
	Retain          bool          // later subscribers receive it too
	Delay           time.Duration // Will Delay Interval, in whole seconds, rounded up; 0: none
	Expiry          time.Duration // after its publication, in whole seconds, rounded up; 0: never
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	PayloadIsUTF8   bool
	UserProperties  []UserProperty
}

// packet is the will as the message that the server will publish.
func (w *Will) packet() wire.Publish {
	m := Message{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Expiry: w.Expiry,
		ContentType: w.ContentType, ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData,
		PayloadIsUTF8: w.PayloadIsUTF8, UserProperties: w.UserProperties}
	return m.packet()
}

// properties are the encoded Will Properties. paho.golang omits most of them, so the
// link inserts them into CONNECT.
func (w *Will) properties() []byte {
	var dst []byte
	if w.Delay > 0 {
		dst = wire.AppendProperty(dst, wire.Property{ID: wire.PropWillDelay, Int: wire.Seconds(w.Delay)})
	}
	p := w.packet()
	return p.AppendProperties(dst)
}
