package client_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// A panic of the application does not end the process, and is reported.
func TestLosses_Panics(t *testing.T) {
	for function, provoke := range map[string]func(*lossBed){
		"OnStateChange": scripted(func(cfg *client.Config) {
			cfg.Publishing.Breaker = reliability.BreakerOptions{FailureThreshold: 1, Judge: func(error) reliability.Judgment { return reliability.Failed },
				OnStateChange: func(_, _ reliability.State) { panic("no") }}
		}, refusedWith(0x99)),
		"OnCorruption": damaged(func(persistence.Corruption) { panic("no") }),
		"OnChange": withRetained(mqtttest.Options{}, func(r *retaining) {
			w := must1(r.c.WatchStatus(r.t.Context(), "s/+", client.WatchOptions{OnChange: func(presence.Change) { panic("no") }}))
			must1(w.Synced(r.t.Context()))
		}),
		"Parse": withRetained(mqtttest.Options{}, func(r *retaining) {
			r.set("s/1", "secret")
			w := must1(r.c.WatchStatus(r.t.Context(), "s/+", client.WatchOptions{Parse: func(string, []byte) (presence.Status, error) { panic("no") }}))
			must1(w.Synced(r.t.Context()))
		}),
	} {
		t.Run(function, func(t *testing.T) {
			lines, b := defaultLog(t), &lossBed{T: t}
			provoke(b)
			got := eventsOf[client.CallbackPanicked](&b.events)
			if len(got) == 0 || got[0].Function != function || got[0].Err.Value != "no" {
				t.Errorf("the events are %v", got)
			}
			if l := lines.of("panic"); len(l) == 0 || l[0].attrs["function"] != function || !strings.Contains(l[0].attrs["stack"], "TestLosses_Panics") {
				t.Errorf("the lines are %v", l)
			}
			if n := b.c.Stats().Panics; n != uint64(len(got)) {
				t.Errorf("%d panics were counted, and %d reported", n, len(got))
			}
		})
	}
}

// A panic of OnEvent is logged and counted, and is no event: that would panic, too.
func TestLosses_OnEventPanics(t *testing.T) {
	lines, b, calls := defaultLog(t), &lossBed{T: t}, 0
	scripted(func(cfg *client.Config) {
		cfg.OnEvent = func(client.Event) { calls++; panic("no") }
	}, func(*lossBed, *peer) {})(b)
	if l := lines.of("panic"); len(l) == 0 || l[0].attrs["function"] != "OnEvent" || b.c.Stats().Panics != uint64(calls) || calls == 0 {
		t.Errorf("%d calls, %d panics were counted, and the lines are %v", calls, b.c.Stats().Panics, l)
	}
}

// Received messages that wait when a client without a lasting session closes are lost.
func TestLosses_WaitingMessagesAtClose(t *testing.T) {
	for expiry, want := range map[time.Duration]int{client.NoSession: 3, time.Hour: 0} {
		b := &lossBed{T: t}
		received(func(cfg *client.Config) {
			cfg.Session.Expiry, cfg.Receiving.Concurrency, cfg.Connection.CloseTimeout = expiry, 1, time.Second
			cfg.Receiving.Ordering = &client.Ordering{Options: ordering.Options{GapTimeout: time.Hour}}
		}, func(ctx context.Context, m *client.Message) error {
			if m.Topic == "t" {
				return nil
			}
			return blocking(ctx, m)
		}, numbered("t", 1, 1, 1), numbered("t", 2, 1, 3), numbered("u", 3, 1, 1), numbered("u", 4, 1, 2))(b) // handled, held, interrupted, queued
		got := 0
		for _, e := range eventsOf[client.MessagesAbandoned](&b.events) {
			got += e.Received
		}
		if got != want || len(eventsOf[client.Gap](&b.events)) != 0 || b.c.Stats().Gaps != 0 {
			t.Errorf("with a session of %v, %d messages ended with the client, want %d", expiry, got, want)
		}
	}
}

// QoS 0 messages that wait when the client closes are reported, too.
func TestLosses_WaitingQoS0MessagesAtClose(t *testing.T) {
	b := &lossBed{T: t}
	received(func(cfg *client.Config) { cfg.Receiving.Concurrency = 1 }, blocking, wire.Publish{Topic: "1"}, wire.Publish{Topic: "2"}, wire.Publish{Topic: "3"})(b)
	var topics []string
	for _, e := range eventsOf[client.QoS0Dropped](&b.events) {
		topics = append(topics, e.Message.Topic)
	}
	if slices.Sort(topics); !slices.Equal(topics, []string{"1", "2", "3"}) || b.c.Stats().DroppedQoS0 != 3 {
		t.Errorf("dropped were %v, and %d were counted", topics, b.c.Stats().DroppedQoS0)
	}
}
