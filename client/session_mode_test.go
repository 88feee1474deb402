package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// What each mode makes of each pair of what the server and the store know. A
// strict client sends a final DISCONNECT, stops with a typed error, and leaves the store as
// it was.
func TestSessionMode(t *testing.T) {
	for name, tt := range map[string]struct {
		mode           client.SessionMode
		known, present bool
		cleanStart     bool
		will           bool
		stops          error // nil: it goes on
		reason         byte
	}{
		"resume, both know it":                {mode: client.ResumeSession, known: true, present: true},
		"resume, neither":                     {mode: client.ResumeSession},
		"resume, the server lost it":          {mode: client.ResumeSession, known: true},
		"strict, both know it":                {mode: client.StrictSession, known: true, present: true},
		"strict, neither":                     {mode: client.StrictSession},
		"strict, the server lost it":          {mode: client.StrictSession, known: true, stops: client.ErrSessionLost},
		"strict, the server lost it, a will":  {mode: client.StrictSession, known: true, will: true, stops: client.ErrSessionLost, reason: 0x04},
		"strict, the store lost it":           {mode: client.StrictSession, present: true, stops: client.ErrUnknownSession},
		"strict, the store lost it, a will":   {mode: client.StrictSession, present: true, will: true, stops: client.ErrUnknownSession, reason: 0x04},
		"strict, a new one was asked for":     {mode: client.StrictSession, known: true, cleanStart: true},
		"strict, a new one for a new store":   {mode: client.StrictSession, cleanStart: true},
		"resume, a new one where it is known": {mode: client.ResumeSession, known: true, cleanStart: true},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				cfg.Session.Mode, cfg.Session.CleanStart, cfg.Store.Custom = tt.mode, tt.cleanStart, persistence.NewMemory(persistence.Options{})
				if tt.known {
					cfg.Store.Custom = usedStore(t)
				}
				if tt.will {
					cfg.Presence.Will = &client.Will{Topic: "gone"}
				}
				c := mustNew(t, cfg)
				d := publish(t, c, "t", "x", client.ExactlyOnce)
				start(t, c)
				p := s.accept(control.Connack{SessionPresent: tt.present})
				if tt.stops == nil {
					p.nextPublish()
					return
				}
				bye, err := control.ParseDisconnect(p.ended())
				if err != nil || bye.Reason != tt.reason {
					t.Errorf("got %+v, %v, want DISCONNECT 0x%02X", bye, err, tt.reason)
				}
				// The next process would mistake a session that this CONNECT began for its own.
				if forgets := bye.HasSessionExpiry && bye.SessionExpiry == 0; forgets == tt.present {
					t.Errorf("the session is ended: %v", forgets)
				}
				<-c.Done()
				var typed *client.SessionError
				if err := c.Err(); !errors.As(err, &typed) || !errors.Is(err, tt.stops) || typed.Present != tt.present {
					t.Errorf("the client stopped with %v", err)
				}
				if got := eventsOf[client.SessionLost](&events); len(got) != 0 {
					t.Errorf("events: %v", got)
				}
				if _, known := cfg.Store.Custom.Session(); known != tt.known || cfg.Store.Custom.Stats().Pending != 1 {
					t.Error("the store was changed")
				}
				wantState(t, d, client.Abandoned)
			})
		})
	}
}

// A strict client stops when its session is lost while it runs, with what was in
// flight untouched, and when another client takes the session over.
func TestSessionMode_StrictStopsWhenSessionIsLost(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Session.Mode, cfg.Session.CleanStart = client.StrictSession, true
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		p.nextPublish()
		p.close()
		p = s.accept(control.Connack{SessionPresent: true})
		if m := p.nextPublish(); !m.Dup {
			t.Errorf("got %+v", m)
		}
		p.close()
		p = s.accept(control.Connack{})
		if f := p.ended(); f.Type() != wire.DISCONNECT {
			t.Errorf("got %v", f.Type())
		}
		<-c.Done()
		if !errors.Is(c.Err(), client.ErrSessionLost) {
			t.Errorf("the client stopped with %v", c.Err())
		}
		wantState(t, d, client.Abandoned)
	})
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Session.Mode = client.StrictSession
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonSessionTakenOver}))
		<-c.Done()
		var taken *client.ConnectionError
		if !errors.As(c.Err(), &taken) || taken.Code != wire.ReasonSessionTakenOver {
			t.Errorf("the client stopped with %v", c.Err())
		}
		synctest.Wait()
		if len(s.conns) != 0 {
			t.Error("it connected again")
		}
	})
}

// A server that resumes a session although a new one was asked for is in the
// wrong [MQTT-3.2.2-2]: nothing is sent in it, in either mode, and the client tries
// again.
func TestCleanStart_ServerResumesSession(t *testing.T) {
	for _, mode := range []client.SessionMode{client.ResumeSession, client.StrictSession} {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Session.Mode, cfg.Session.CleanStart, cfg.Store.Custom = mode, true, usedStore(t)
			c := mustNew(t, cfg)
			publish(t, c, "t", "x", client.ExactlyOnce)
			start(t, c)
			p := s.open()
			p.send(control.AppendConnack(nil, &control.Connack{SessionPresent: true}))
			if f := p.ended(); f.Raw != nil {
				t.Errorf("got %v", f.Type())
			}
			p = s.accept(control.Connack{})
			p.nextPublish()
			var broken *client.ProtocolError
			if failed := eventsOf[client.ConnectFailed](&events); len(failed) != 1 || !errors.As(failed[0].Err, &broken) {
				t.Errorf("events: %v", failed)
			}
		})
	}
}

// TestSessionError_Texts: each cause has its own text.
func TestSessionError_Texts(t *testing.T) {
	for want, err := range map[string]*client.SessionError{
		"session taken over":          {TakenOver: true, Present: true, ClientID: "x"},
		`belongs to the ClientID "x"`: {Present: true, ClientID: "x"},
		"the store does not know":     {Present: true},
		"session lost":                {},
	} {
		if got := err.Error(); !strings.Contains(got, want) {
			t.Errorf("%+v: %s", *err, got)
		}
	}
}
