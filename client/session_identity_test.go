package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Another client took the session over in an earlier process, and has used it. It is given up
// before anything is sent in it [MQTT-3.2.2-4].
func TestSession_DiscardsSessionUsedByAnotherClient(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		store := persistence.NewMemory(persistence.Options{})
		must(t, store.ResetSession("\x00taken over"))
		store = store.Reopen()
		cfg := testConfig("c", &events, s.dial)
		cfg.Store.Custom = store
		c := mustNew(t, cfg)
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		start(t, c)

		p := s.accept(control.Connack{SessionPresent: true})
		if p.connect.CleanStart {
			t.Error("Clean Start is 1 where a session may be resumed")
		}
		if f := p.ended(); f.Raw != nil {
			t.Errorf("%v was sent in the session of another client", f.Type())
		}
		synctest.Wait()
		failed := eventsOf[client.ConnectFailed](&events)
		if len(failed) != 1 || !errors.Is(failed[0].Err, client.ErrUnknownSession) || errors.Is(failed[0].Err, client.ErrSessionAdopted) {
			t.Fatalf("events: %+v", failed)
		}

		// A server that resumes it all the same is not asked again at once.
		begin := time.Now()
		if p = s.open(); !p.connect.CleanStart {
			t.Error("Clean Start is 0 after an unknown session")
		}
		p.send(control.AppendConnack(nil, &control.Connack{SessionPresent: true}))
		p.ended()
		p = s.accept(control.Connack{})
		if took := time.Since(begin); !p.connect.CleanStart || took == 0 {
			t.Errorf("Clean Start %v after %v", p.connect.CleanStart, took)
		}
		if got := p.nextPublish(); string(got.Payload) != "x" || got.Dup {
			t.Errorf("got %+v", got)
		}
		p.close()

		// From here on the session is known, in this process and the next.
		p = s.accept(control.Connack{SessionPresent: true})
		if p.connect.CleanStart {
			t.Error("Clean Start is 1 for a session that we began")
		}
		if got := p.nextPublish(); !got.Dup {
			t.Errorf("got %+v", got)
		}
		client.Abort(c, errors.New("killed"))
		<-c.Done()
		wantState(t, d, client.Abandoned)
		cfg.Store.Custom = store.Reopen()
		start(t, mustNew(t, cfg))
		p = s.accept(control.Connack{SessionPresent: true})
		if got := p.nextPublish(); string(got.Payload) != "x" || !got.Dup {
			t.Errorf("the next process sent %+v", got)
		}
	})
}

// A ClientID that the client made up ends with it: a broker must not keep its
// session for a day that nobody will resume.
func TestSession_OfGeneratedClientIDEndsAtClose(t *testing.T) {
	for _, id := range []string{"", "given"} {
		withScript(t, func(t *testing.T, s *script) {
			c := mustNew(t, testConfig(id, &recorder{}, s.dial))
			start(t, c)
			p := s.accept(control.Connack{})
			connect(t, c)
			must(t, c.Close())
			d, err := control.ParseDisconnect(p.ended())
			if err != nil {
				t.Fatal(err)
			}
			if ends := d.HasSessionExpiry && d.SessionExpiry == 0; ends != (id == "") {
				t.Errorf("ClientID %q: DISCONNECT %+v", id, d)
			}
		})
	}
}
