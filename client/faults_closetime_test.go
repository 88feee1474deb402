package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// At the end, the client waits for handlers, OnChange and the server's answers within one
// CloseTimeout in all, not one each.
func TestFaultClose_HasOneTimeout(t *testing.T) {
	for name, tt := range map[string]struct{ handler, watch, silent bool }{
		"a handler":                              {handler: true},
		"an OnChange":                            {watch: true},
		"a server that answers nothing":          {silent: true},
		"an OnChange, and the server":            {watch: true, silent: true},
		"a handler, and the server":              {handler: true, silent: true},
		"a handler, an OnChange, and the server": {handler: true, watch: true, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				cfg := testConfig("c", &recorder{}, sendingThrough(p))
				cfg.Connection.CloseTimeout, cfg.Connection.KeepAlive, cfg.Connection.AckTimeout = 4*time.Second, time.Hour, time.Hour
				cfg.Presence.Status = &client.Status{Topic: "status/c"}
				c := mustNew(t, cfg)
				must1(c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(ctx context.Context, _ *client.Message) error {
					if tt.handler {
						<-ctx.Done()
					}
					return ctx.Err()
				})))
				release := make(chan struct{})
				defer close(release)
				_, err := c.WatchStatus(t.Context(), "status/+", client.WatchOptions{OnChange: func(presence.Change) {
					if tt.watch {
						<-release
					}
				}})
				must(t, err)
				start(t, c)
				connect(t, c)
				wantState(t, publish(t, c, "in", "x", client.AtLeastOnce), client.Acked)
				synctest.Wait()
				time.Sleep(time.Minute)
				if tt.silent {
					p.Stall(mqtttest.ToClient)
				}
				began := time.Now()
				must(t, c.Close())
				if took := time.Since(began); took > cfg.Connection.CloseTimeout+time.Second {
					t.Errorf("Close took %v, its timeout is %v", took, cfg.Connection.CloseTimeout)
				}
				// The packets for the server are not affected.
				p.Resume()
				time.Sleep(time.Minute)
				if payload, _ := b.Retained("status/c"); string(payload) != "offline" {
					t.Errorf("the status is %q", payload)
				}
			})
		})
	}
}
