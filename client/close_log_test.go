package client_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestClose_LogsReasonOfDisconnect(t *testing.T) {
	for name, end := range map[string]func(c *client.Client, cancel context.CancelCauseFunc){
		"Close":             func(c *client.Client, _ context.CancelCauseFunc) { must(t, c.Close()) },
		"Drain":             func(c *client.Client, _ context.CancelCauseFunc) { must(t, c.Drain(context.Background())) },
		"cancelled context": func(_ *client.Client, cancel context.CancelCauseFunc) { cancel(nil) },
		"ErrAbort":          func(_ *client.Client, cancel context.CancelCauseFunc) { cancel(client.ErrAbort) },
	} {
		t.Run(name, func(t *testing.T) {
			lines := defaultLog(t)
			withScript(t, func(t *testing.T, s *script) {
				c := mustNew(t, testConfig("c", &recorder{}, s.dial))
				ctx, cancel := context.WithCancelCause(t.Context())
				must(t, c.Start(ctx))
				s.accept(control.Connack{}).close() // a connection that the server ends
				p := s.accept(control.Connack{})
				connect(t, c)
				synctest.Wait()
				end(c, cancel)
				p.ended()
				<-c.Done()
				var found []line
				for _, l := range lines.of("") {
					if l.text == "disconnected" {
						found = append(found, l)
					}
				}
				if len(found) != 2 {
					t.Fatalf("logged %v, want two disconnected lines", found)
				}
				_, failed := found[0].attrs["error"]
				_, retries := found[0].attrs["retry_in"]
				if !failed || !retries {
					t.Errorf("after the server ended the connection: %v", found[0])
				}
				_, failed = found[1].attrs["error"]
				_, retries = found[1].attrs["retry_in"]
				if failed || retries || found[1].attrs["reason"] != "closed by the application" {
					t.Errorf("after the client ended: %v", found[1])
				}
			})
		})
	}
}
