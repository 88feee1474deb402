package interop

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// propertySets are the properties of a message: each alone, and all together.
var propertySets = map[string]client.Message{
	"none":        {},
	"content":     {ContentType: "application/json; charset=utf-8"},
	"response":    {ResponseTopic: "answers/to/this"},
	"correlation": {CorrelationData: []byte{0, 1, 0xFF, 0xFE, '|'}},
	"utf8":        {PayloadIsUTF8: true},
	"user":        {UserProperties: []client.UserProperty{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "b", Value: ""}, {Key: "ü", Value: "ß"}}},
	"expiry":      {Expiry: time.Hour},
	"all": {ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte("c"), PayloadIsUTF8: true, Expiry: 2 * time.Hour,
		UserProperties: []client.UserProperty{{Key: "x", Value: "1"}, {Key: "x", Value: "0"}}},
}

func TestProperties_ArriveUnchanged(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		filter := r.topic("properties/#")
		live := r.subscribe(r.start(r.config("live")), filter, client.ExactlyOnce)
		publisher := r.start(r.config("pub"))
		sent := map[string]client.Message{}
		var retained int
		for name, m := range propertySets {
			for _, qos := range []client.QoS{0, 1, 2} {
				for _, retain := range []bool{false, true} {
					m.Topic = r.topic(fmt.Sprintf("properties/%s/%d/%t", name, qos, retain))
					m.QoS, m.Retain = qos, retain
					m.Payload = []byte("payload of " + m.Topic)
					m.ID = r.deliver(publisher, m).ID
					sent[m.Topic] = m
					if retain {
						retained++
					}
				}
			}
		}
		for _, got := range live.awaitN(r, "messages", len(sent)) {
			expectProperties(r, got, sent[got.Topic], false)
		}
		late := r.subscribe(r.start(r.config("late")), filter, client.ExactlyOnce)
		for _, got := range late.awaitN(r, "retained messages", retained) {
			expectProperties(r, got, sent[got.Topic], true)
		}
	})
}

// expectProperties compares everything that an application sees.
func expectProperties(r *run, got *client.Message, want client.Message, retain bool) {
	r.Helper()
	want.Retain = retain
	if left := got.Expiry; left > want.Expiry || left < want.Expiry-timeout {
		r.Errorf("%s: expires in %v, want %v less the time on the way", want.Topic, left, want.Expiry)
	}
	have := *got
	have.Expiry, have.SubscriptionIDs, have.Claim, have.ReceivedAt = want.Expiry, nil, want.Claim, want.ReceivedAt
	if !reflect.DeepEqual(have, want) {
		r.Errorf("%s:\n got %+v\nwant %+v", got.Topic, have, want)
	}
}

func TestRetainAsPublished_KeepsTheFlag(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		topic := r.topic("retain/as/published")
		in := r.subscribe(r.start(r.config("sub")), topic, client.AtLeastOnce, client.RetainAsPublished())
		publisher := r.start(r.config("pub"))
		r.deliver(publisher, client.Message{Topic: topic, Payload: []byte("kept"), QoS: client.AtLeastOnce, Retain: true})
		r.deliver(publisher, client.Message{Topic: topic, Payload: []byte("passing"), QoS: client.AtLeastOnce})
		got := in.awaitN(r, "messages", 2)
		if !got[0].Retain || got[1].Retain {
			r.Errorf("retain flags are %t and %t, want true and false", got[0].Retain, got[1].Retain)
		}
	})
}

func TestPayloads_LargeOnesArriveComplete(t *testing.T) {
	t.Parallel()
	onEachBroker(t, setup{}, func(r *run) {
		payload := make([]byte, 200<<10)
		_, _ = rand.NewChaCha8([32]byte{}).Read(payload)
		topic := r.topic("large")
		sub := r.start(r.config("sub"))
		in := &inbox{}
		// The handler changes its message. The copies must be independent.
		spoil := client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			kept := *m
			kept.Payload = bytes.Clone(m.Payload)
			clear(m.Payload)
			return in.Handle(ctx, &kept)
		})
		if _, err := sub.Subscribe(r.ctx, topic, client.ExactlyOnce, spoil); err != nil {
			r.Fatal(err)
		}
		publisher := r.start(r.config("pub"))
		for _, qos := range []client.QoS{0, 1, 2} {
			r.deliver(publisher, client.Message{Topic: topic, Payload: payload, QoS: qos})
		}
		for i, m := range in.awaitN(r, "messages", 3) {
			if !bytes.Equal(m.Payload, payload) {
				r.Errorf("message %d: %d bytes came, %d were sent, or they differ", i, len(m.Payload), len(payload))
			}
		}
	})
}
