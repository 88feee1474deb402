package client_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// TestPublish_RejectsReserved publishes what only the client may set.
func TestPublish_RejectsReserved(t *testing.T) {
	user := func(names ...string) func(m *client.Message) {
		return func(m *client.Message) {
			for _, name := range names {
				m.UserProperties = append(m.UserProperties, client.UserProperty{Key: name, Value: "1"})
			}
		}
	}
	for name, tt := range map[string]struct {
		set          func(m *client.Message)
		field, names string // "": it is accepted
	}{
		"m-id":             {user("a", "m-id"), "UserProperties", "Message.ID"},
		"m-pub":            {user("m-pub"), "UserProperties", "m-pub"},
		"m-epoch":          {user("m-epoch"), "UserProperties", "m-epoch"},
		"m-seq":            {user("m-seq", "b"), "UserProperties", "m-seq"},
		"a publisher":      {func(m *client.Message) { m.Origin.Publisher = "p" }, "Origin", "Message.Forward"},
		"an epoch":         {func(m *client.Message) { m.Origin.Epoch = 1 }, "Origin", "Message.Forward"},
		"a number":         {func(m *client.Message) { m.Origin.Seq = 1 }, "Origin", "Message.Forward"},
		"other m- names":   {user("m-", "m-x", "m-ids", "M-ID", "m-pub ", "m_id", "m-seqence"), "", ""},
		"ignored settings": {func(m *client.Message) { m.ReceivedAt, m.Duplicate, m.OutOfOrder = time.Now(), true, true }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, _ *mqtttest.Broker, p *mqtttest.Proxy) {
				c := mustStart(t, testConfig("c", &recorder{}, through(p)))
				connect(t, c)
				for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
					m := client.Message{Topic: "t", QoS: qos}
					tt.set(&m)
					_, err := c.Publish(t.Context(), m)
					var bad *client.FieldError
					switch {
					case tt.field == "" && err != nil:
						t.Errorf("QoS %d: %v", qos, err)
					case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(bad.Problem, tt.names) || !reliability.SafeToRetry(err)):
						t.Errorf("QoS %d: %v, want a *FieldError about %s that names %s", qos, err, tt.field, tt.names)
					}
				}
				if s := c.Stats().Store; tt.field != "" && s.Accepted != 0 {
					t.Errorf("%d refused messages were stored", s.Accepted)
				}
			})
		})
	}
}

// TestMessage_Forward forwards numbered messages to two other topics and on the same one.
func TestMessage_Forward(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, _ *mqtttest.Broker, p *mqtttest.Proxy) {
		inbox := newInbox()
		cfg := testConfig("relay", &recorder{}, through(p))
		cfg.Publishing.Sequenced = true
		c := mustNew(t, cfg)
		attempts := 0
		forward := client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			time.Sleep(5 * time.Second)
			for _, topic := range []string{"out/a", "out/b"} {
				if _, err := c.Publish(ctx, m.Forward(topic)); err != nil {
					t.Errorf("forwarding: %v", err)
				}
			}
			if attempts++; attempts == 1 {
				return errors.New("once more")
			}
			return nil
		})
		start(t, c)
		connect(t, c)
		for filter, h := range map[string]client.Handler{"in": forward, "out/+": inbox} {
			_, err := c.Subscribe(t.Context(), filter, client.ExactlyOnce, h)
			must(t, err)
		}

		sender := testConfig("sender", &recorder{}, through(p))
		sender.Publishing.Sequenced, sender.Publishing.Publisher = true, "press"
		sent := client.Message{
			Topic: "in", Payload: []byte("value"), QoS: client.ExactlyOnce, Priority: client.High, Expiry: time.Minute,
			ContentType: "text/plain", ResponseTopic: "answers", CorrelationData: []byte{1, 2}, PayloadIsUTF8: true,
			UserProperties: []client.UserProperty{{Key: "unit", Value: "bar"}, {Key: "m-x", Value: "free"}},
		}
		s := mustStart(t, sender)
		_, err := s.Publish(t.Context(), sent)
		must(t, err)

		byTopic := map[string][]client.MessageID{}
		for _, m := range inbox.await(t, 4) {
			byTopic[m.Topic] = append(byTopic[m.Topic], m.ID)
			if !bytes.Equal(m.Payload, sent.Payload) || m.QoS != sent.QoS || m.ContentType != sent.ContentType || m.ResponseTopic != sent.ResponseTopic || m.Retain ||
				!bytes.Equal(m.CorrelationData, sent.CorrelationData) || !m.PayloadIsUTF8 || !slices.Equal(m.UserProperties, sent.UserProperties) {
				t.Errorf("got %+v, want what was sent", m)
			}
			if m.Origin.Publisher != "relay" || m.Origin.Seq == 0 {
				t.Errorf("the origin is %+v, want that of the relay", m.Origin)
			}
			if m.Expiry < 45*time.Second || m.Expiry > 56*time.Second {
				t.Errorf("%v are left of an Expiry of a minute after 5 s and 10 s", m.Expiry)
			}
		}
		a, b := byTopic["out/a"], byTopic["out/b"]
		if len(a) != 2 || len(b) != 2 || a[0] != a[1] || b[0] != b[1] || a[0] == b[0] || a[0].IsZero() {
			t.Errorf("the IDs are %v; want the same for the same topic, and others for the other one", byTopic)
		}
	})
}

func TestMessage_ForwardIDs(t *testing.T) {
	m := &client.Message{Topic: "a", ID: client.NewMessageID(), ReceivedAt: time.Now().Add(-time.Minute), Expiry: time.Second, Retain: true}
	if f := m.Forward("a"); f.ID != m.ID || f.Expiry != 1 || f.Retain {
		t.Errorf("on the same topic, expired and retained: %+v", f)
	}
	if f := m.Forward("b"); f.ID == m.ID || f.ID.IsZero() || f.ID != m.Forward("b").ID {
		t.Errorf("on another topic: ID %v, of a message with %v", f.ID, m.ID)
	}
	if f := (&client.Message{Topic: "a"}).Forward("b"); !f.ID.IsZero() || f.Expiry != 0 {
		t.Errorf("without ID and Expiry: %+v", f)
	}
}
