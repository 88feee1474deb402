package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// TestStatus_Details: each status message except the will has the present details.
func TestStatus_Details(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		calls := 0
		var c *client.Client
		cfg := testConfig("c", &recorder{}, s.dial)
		structured(func(s *client.Status) {
			s.Heartbeat = 10 * time.Second
			s.Details = func() map[string]string {
				calls++
				_ = c.Stats() // holds no lock
				return map[string]string{"calls": fmt.Sprint(calls)}
			}
		})(&cfg)
		c = mustNew(t, cfg)
		start(t, c)
		p := s.accept(control.Connack{})
		if d := parse(t, p.connect.Will.Payload).Details; d != (presence.Details{}) {
			t.Errorf("the will has %v", d)
		}
		for i, reason := range []string{"birth", "heartbeat", "heartbeat"} {
			m, got := p.nextWord(reason)
			if got.Details.Get("calls") != fmt.Sprint(i+1) {
				t.Errorf("%s %d has %v", reason, i, got.Details)
			}
			p.accepts(m)
		}
		done := make(chan error, 1)
		go func() { done <- c.Close() }()
		m, got := p.nextWord("close")
		if got.Details.Get("calls") != "4" {
			t.Errorf("close has %v", got.Details)
		}
		p.accepts(m)
		must(t, <-done)
	})
}

// TestStatus_InvalidDetails: the status is published without them, and that is reported.
func TestStatus_InvalidDetails(t *testing.T) {
	large := func() map[string]string { return map[string]string{"a": strings.Repeat("x", presence.MaxDetails)} }
	for name, details := range map[string]func() map[string]string{"large": large, "panic": func() map[string]string { panic("boom") }} {
		t.Run(name, func(t *testing.T) {
			publishing(t, structured(func(s *client.Status) { s.Details = details }), control.Connack{}, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
				m, got := p.nextWord("birth")
				if got.Details != (presence.Details{}) || got.Version != "1.4.2" {
					t.Errorf("the birth is %+v", got)
				}
				p.accepts(m)
				synctest.Wait()
				failed, panicked := eventsOf[client.StatusFailed](events), eventsOf[client.CallbackPanicked](events)
				if name == "large" && (len(failed) != 1 || !errors.Is(failed[0].Err, presence.ErrDetails)) {
					t.Errorf("reported %v", failed)
				}
				if name == "panic" && (len(panicked) != 1 || panicked[0].Function != "Status.Details") {
					t.Errorf("reported %v", panicked)
				}
			})
		})
	}
}
