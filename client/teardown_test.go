package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestWatermark_IsLoweredAtTheEnd: what waits for the window has not been sent, and
// comes without DUP later [MQTT-3.3.1-3].
func TestWatermark_IsLoweredAtTheEnd(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = persistence.NewMemory(persistence.Options{})
		c := mustStart(t, cfg)
		for range 100 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		p := s.accept(control.Connack{ReceiveMaximum: 2})
		for range 20 { // marks reach further where much is sent
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		const sent = 20 + 2
		for range sent - 20 {
			p.nextPublish()
		}
		synctest.Wait()
		if marked := cfg.Store.Custom.Sent(client.Normal); marked <= sent {
			t.Fatalf("marked up to %d", marked)
		}
		go func() {
			for range p.got {
			}
		}()
		must(t, c.Close())
		if marked := cfg.Store.Custom.Sent(client.Normal); marked != sent {
			t.Errorf("marked up to %d, and %d were sent", marked, sent)
		}
	})
}

// TestViews_EndWithClient, however it ends, and where it was never started.
func TestViews_EndWithClient(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, c *client.Client){
		"context": func(t *testing.T, c *client.Client) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			must(t, c.Start(ctx))
			synctest.Wait()
			stop()
		},
		"not started": func(t *testing.T, c *client.Client) { must(t, c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				c := mustNew(t, testConfig("c", &recorder{}, s.dial))
				view := must1(c.MirrorRetained(context.Background(), "a/+", client.RetainedOptions{}))
				changes, done := view.Changes(), make(chan error)
				go func() {
					for range changes {
					}
					_, err := view.Synced(context.Background())
					done <- err
				}()
				end(t, c)
				<-c.Done()
				if err := <-done; !errors.Is(err, client.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
}
