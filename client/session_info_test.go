package client_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

func TestSessionInfo(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Session.Expiry, cfg.Connection.ConnectTimeout, cfg.Connection.AckTimeout, cfg.Connection.WriteTimeout = time.Hour, time.Hour, time.Hour, time.Hour
		c := mustNew(t, cfg)
		began := time.Now()
		want := func(exists bool, expiry, until time.Duration, lost uint64) {
			t.Helper()
			synctest.Wait()
			w := client.SessionInfo{MayExist: exists, Expiry: expiry, Lost: lost}
			if until > 0 {
				w.Until = began.Add(until)
			}
			if got := c.Session(); got != w {
				t.Errorf("%+v, want %+v", got, w)
			}
		}
		want(false, 0, 0, 0)
		start(t, c)
		p := s.accept(control.Connack{HasSessionExpiry: true, SessionExpiry: 60}) // less than asked
		connect(t, c)
		want(true, time.Minute, 0, 0)
		time.Sleep(10 * time.Minute)
		want(true, time.Minute, 0, 0)
		p.close()
		want(true, time.Minute, 11*time.Minute, 0)
		p = s.open() // and no CONNACK
		time.Sleep(time.Minute - time.Second)
		want(true, time.Minute, 11*time.Minute, 0)
		time.Sleep(time.Second)
		want(false, time.Minute, 11*time.Minute, 0)
		p.send(control.AppendConnack(nil, &control.Connack{HasSessionExpiry: true, SessionExpiry: 1<<32 - 1}))
		connect(t, c)
		want(true, client.SessionNeverExpires, 0, 1)
		p.close()
		time.Sleep(100 * time.Hour)
		want(true, client.SessionNeverExpires, 0, 1)
	})
	withScript(t, func(t *testing.T, s *script) {
		for name, tt := range map[string]struct {
			store persistence.Store
			edit  func(*client.Config)
			want  bool
		}{
			"an earlier process had one": {usedStore(t), func(*client.Config) {}, true},
			"under another ClientID":     {usedStore(t), func(c *client.Config) { c.ClientID = "d" }, false},
			"it is to be given up":       {usedStore(t), func(c *client.Config) { c.Session.CleanStart = true }, false},
			"none is kept":               {usedStore(t), func(c *client.Config) { c.Session.Expiry = client.NoSession }, false},
			"a new store":                {persistence.NewMemory(persistence.Options{}), func(*client.Config) {}, false},
		} {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Store.Custom = tt.store
			tt.edit(&cfg)
			if got := mustNew(t, cfg).Session(); got != (client.SessionInfo{MayExist: tt.want}) {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}

func TestSessionInfo_AfterCloseWith(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		s.accept(control.Connack{})
		connect(t, c)
		must(t, c.CloseWith(client.DisconnectOptions{SessionExpiry: client.NoSession}))
		if i := c.Session(); i.MayExist {
			t.Errorf("%+v", i)
		}
	})
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("other", &events, s.dial)
		cfg.Store.Custom = usedStore(t) // of another ClientID: no message of this client is lost
		c := mustStart(t, cfg)
		s.accept(control.Connack{})
		connect(t, c)
		if n := len(eventsOf[client.SessionLost](&events)); n > 0 || c.Session().Lost > 0 {
			t.Errorf("SessionLost was reported %d times: %+v", n, c.Session())
		}
	})
}
