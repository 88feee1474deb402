package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// wantReason checks the reason code, the Reason String and the text of a refusal.
func wantReason(t *testing.T, err error, code byte, reason string, parts ...string) {
	t.Helper()
	var refused *client.RefusedError
	if !errors.As(err, &refused) || refused.Code != code || refused.Reason != reason {
		t.Errorf("got %v, want 0x%02X with the reason %.40q", err, code, reason)
		return
	}
	for _, part := range append(parts, reason) {
		if !strings.Contains(refused.Error(), part) {
			t.Errorf("the text %.200q does not contain %.40q", refused, part)
		}
	}
}

func TestSubscribe_ReturnsReasonString(t *testing.T) {
	long := strings.Repeat("r", 60_000)
	for sent, want := range map[string]string{"commands are for operators": "commands are for operators", "": "", long: long[:1024]} {
		publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
			done := make(chan error, 1)
			go func() { done <- errOf(c.Subscribe(t.Context(), "cmd/+", 1, newInbox())) }()
			sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
			must(t, err)
			p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, ReasonString: sent, Reasons: []byte{0x87}}))
			wantReason(t, <-done, 0x87, want, "cmd/+", "Not authorized (0x87)")
			failed := eventsOf[client.SubscriptionFailed](events)
			if len(failed) != 1 {
				t.Fatalf("%d events, want 1", len(failed))
			}
			wantReason(t, failed[0].Err, 0x87, want)

			go func() { done <- c.Unsubscribe(t.Context(), "cmd/+") }()
			un, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
			must(t, err)
			p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: un.PacketID, ReasonString: sent, Reasons: []byte{0x83}}))
			wantReason(t, <-done, 0x83, want, "cmd/+")
		})
	}
}

// The reason of a limit that the client knows from CONNACK is advice, and the text names the filter.
func TestSubscribe_ReasonOfALimitIsAdvice(t *testing.T) {
	publishing(t, nil, control.Connack{WildcardUnavailable: true}, func(t *testing.T, c *client.Client, _ *peer, _ *recorder) {
		wantReason(t, errOf(c.Subscribe(t.Context(), "cmd/+", 1, newInbox())), 0xA2, "name each topic by itself", "cmd/+")
	})
}

func TestStatus_ReportsReasonString(t *testing.T) {
	publishing(t, withStatus, control.Connack{}, func(t *testing.T, _ *client.Client, p *peer, events *recorder) {
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0x87, "not your topic")
		synctest.Wait()
		failed := eventsOf[client.StatusFailed](events)
		if len(failed) == 0 {
			t.Fatal("no StatusFailed event")
		}
		wantReason(t, failed[0].Err, 0x87, "not your topic", "status message")
	})
}

func TestRetained_MarkerFailedReportsReasonString(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, b.Dial))
		connect(t, c)
		b.Next("c", mqtttest.PUBACK).Refuse(0x87, "no markers")
		_, err := c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{})
		must(t, err)
		failed := eventsOf[client.MarkerFailed](&events)
		if len(failed) == 0 {
			t.Fatal("no MarkerFailed event")
		}
		wantReason(t, failed[0].Err, 0x87, "no markers", "marker")
	})
}
