package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// exported is one line of export. Later versions may add fields, but do not rename them. A value
// that is not UTF-8 is in the field whose name ends with _base64, instead of the field of the
// same name without _base64.
type exported struct {
	Seq      uint64     `json:"seq"`
	State    string     `json:"state"` // pending, deferred, released, dead, acked, refused, expired, dropped, discarded
	Reason   *byte      `json:"reason,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
	ID       string     `json:"id,omitempty"`
	Accepted *time.Time `json:"accepted,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Priority string     `json:"priority"`
	Number   uint64     `json:"number,omitempty"`

	Key       string `json:"key,omitempty"`
	KeyB64    []byte `json:"key_base64,omitempty"`
	Stream    string `json:"stream,omitempty"`
	StreamB64 []byte `json:"stream_base64,omitempty"`
	StreamSeq uint64 `json:"stream_seq,omitempty"`

	OnSessionLost string `json:"on_session_lost,omitempty"` // republish, fail

	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset,omitempty"`

	*exportedPublish
	PacketB64 []byte `json:"packet_base64,omitempty"` // instead of exportedPublish, if the packet is not a PUBLISH
}

type exportedPublish struct {
	Topic           string      `json:"topic"`
	QoS             byte        `json:"qos"`
	Retain          bool        `json:"retain"`
	PayloadUTF8     bool        `json:"payload_is_utf8,omitempty"` // the Payload Format Indicator
	MessageExpiry   *uint32     `json:"message_expiry,omitempty"`  // seconds
	ContentType     string      `json:"content_type,omitempty"`
	ResponseTopic   string      `json:"response_topic,omitempty"`
	CorrelationData []byte      `json:"correlation_data_base64,omitempty"`
	User            [][2]string `json:"user_properties,omitempty"`
	Payload         *string     `json:"payload,omitempty"`
	PayloadB64      []byte      `json:"payload_base64,omitempty"`
}

// export prints one JSON object per line, in the order of the sequence numbers.
func (t *tool) export() (int, error) {
	w := bufio.NewWriterSize(t.out, 64<<10)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err := t.each("all", func(m *message) error { return enc.Encode(line(m)) })
	if errors.Is(err, errLimit) {
		err = nil
	}
	return exitOK, errors.Join(err, w.Flush())
}

func line(m *message) *exported {
	e := &exported{
		Seq: m.Seq, State: m.state(), ID: uuid(m.ID), Priority: priorities[m.Priority], Number: m.Number,
		StreamSeq: m.StreamSeq, OnSessionLost: exportedPolicies[m.OnSessionLost], Segment: m.Segment, Offset: m.Offset,
		Accepted: moment(m.Accepted), Expires: moment(m.Expires), Ended: moment(m.Ended),
	}
	e.Key, e.KeyB64 = text(m.Key)
	e.Stream, e.StreamB64 = text(m.Stream)
	if m.Result.Kind != 0 {
		e.Reason = &m.Result.Reason
	}
	switch {
	case m.decoded:
		e.exportedPublish = publish(&m.publish)
	case m.known():
		e.PacketB64 = m.Packet
	}
	return e
}

var exportedPolicies = [...]string{persistence.AsConfigured: "", persistence.Republish: "republish", persistence.FailInFlight: "fail"}

func publish(p *wire.Publish) *exportedPublish {
	e := &exportedPublish{
		Topic: p.Topic, QoS: p.QoS, Retain: p.Retain, PayloadUTF8: p.PayloadFormat == 1,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData,
	}
	if p.HasExpiry {
		e.MessageExpiry = &p.MessageExpiry
	}
	for _, u := range p.User {
		e.User = append(e.User, [2]string{u.Key, u.Value})
	}
	if payload := string(p.Payload); utf8.ValidString(payload) {
		e.Payload = &payload
	} else {
		e.PayloadB64 = p.Payload
	}
	return e
}

// text returns s as a string if it is UTF-8, and otherwise as bytes.
func text(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// moment returns nil for an unknown time. A wrong clock can have a year that JSON cannot express.
// Such a year becomes 0 or 9999.
func moment(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	switch {
	case at.Year() > 9999:
		at = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	case at.Year() < 0:
		at = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return &at
}
