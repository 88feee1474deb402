package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// PUBACK must not have these codes, so the connection ends and the message is deferred. The error of
// Wait does not name a code that the server has not sent.
func TestDeliveryWait_InvalidPubackCode(t *testing.T) {
	for _, code := range []byte{0x81, 0x82, 0x95} {
		o := mqtttest.Options{Authorize: func(context.Context, string, string, bool) byte { return code }}
		inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
			var events recorder
			c := mustStart(t, testConfig("c", &events, b.Dial))
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			outcome, err := d.Wait(ctx)
			var deferred *client.DeferredError
			if outcome.State != client.Pending || !errors.As(err, &deferred) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("0x%02X: %v, %v; want pending and a *DeferredError", code, outcome.State, err)
			}
			texts := []string{err.Error()}
			for _, e := range eventsOf[client.MessageDeferred](&events) {
				texts = append(texts, e.Err.Error())
			}
			for _, text := range texts {
				if strings.Contains(text, "0x80") || strings.Contains(text, "refuses") || !strings.Contains(text, "connections ended") {
					t.Errorf("0x%02X: the text is %q", code, text)
				}
			}
			if len(eventsOf[client.MessageRefused](&events)) > 0 {
				t.Errorf("0x%02X: the message was refused", code)
			}
		})
	}
}
