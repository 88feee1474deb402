package client_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A device restarts while the server's authentication backend is unavailable. If a server has accepted it
// before, the client does not stop, except for refusals that its StopPolicy selects.
func TestStop_AcceptedBeforeRestart(t *testing.T) {
	for name, tt := range map[string]struct {
		before string // ClientID of the process before; "": no earlier process
		policy client.StopPolicy
		stops  bool
	}{
		"a new client":                {"", client.StopPolicy{}, true},
		"accepted before":             {"c", client.StopPolicy{}, false},
		"another client before":       {"other", client.StopPolicy{}, true},
		"accepted before, always":     {"c", client.StopPolicy{When: client.StopAlways}, true},
		"a new client, never":         {"", client.StopPolicy{When: client.StopNever}, false},
		"a new client, another code":  {"", client.StopPolicy{Codes: []byte{0x86}}, false},
		"a new client, its own code":  {"", client.StopPolicy{Codes: []byte{0x87}}, true},
		"accepted before, empty code": {"c", client.StopPolicy{Codes: []byte{}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				dir := t.TempDir()
				if tt.before != "" {
					cfg := testConfig(tt.before, &recorder{}, s.dial)
					cfg.Dir = dir
					c := mustStart(t, cfg)
					s.accept(control.Connack{})
					connect(t, c)
					must(t, c.Close())
				}
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				cfg.Dir, cfg.Connection.StopOn = dir, tt.policy
				c := mustNew(t, cfg)
				publish(t, c, "t", "x", client.AtLeastOnce)
				start(t, c)
				s.accept(control.Connack{Reason: 0x87})
				if tt.stops {
					<-c.Done()
					var refused *client.ConnectionError
					if !errors.As(c.Err(), &refused) || refused.Code != 0x87 {
						t.Errorf("it stopped with %v", c.Err())
					}
					return
				}
				s.accept(control.Connack{Reason: 0x87})
				p := s.accept(control.Connack{SessionPresent: tt.before != ""})
				p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
				synctest.Wait()
				if got := eventsOf[client.ConnectFailed](&events); len(got) != 2 || c.Stats().Store.Pending != 0 {
					t.Errorf("ConnectFailed events are %v, %d are pending", got, c.Stats().Store.Pending)
				}
			})
		})
	}
}

// State has the time without a connection, across attempts.
func TestState_DisconnectedSince(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		c := mustNew(t, cfg)
		since := func(when string, want time.Time) {
			t.Helper()
			synctest.Wait()
			if got := c.State(); !got.DisconnectedSince.Equal(want) {
				t.Errorf("%s (%v): since %v, want %v", when, got.Phase, got.DisconnectedSince, want)
			}
		}
		since("before Start", time.Now())
		time.Sleep(time.Hour)
		began := time.Now()
		start(t, c)
		for range 3 {
			s.accept(control.Connack{Reason: 0x88}).ended()
			since("never connected", began)
		}
		p := s.accept(control.Connack{})
		since("connected", time.Time{})
		time.Sleep(time.Minute)
		p.close()
		began = time.Now()
		for range 3 {
			since("connection lost", began)
			s.accept(control.Connack{Reason: 0x88}).ended()
			time.Sleep(time.Millisecond)
		}
		s.accept(control.Connack{SessionPresent: true})
		since("connected again", time.Time{})
		time.Sleep(time.Minute)
		must(t, c.Close())
		since("closed", time.Now())
	})
}

// CONNECT has the user properties, in their order, and Keep Alive 0 where that is asked for. Then no
// PINGREQ is sent.
func TestConnect_UserPropertiesAndNoKeepAlive(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.KeepAlive = client.NoKeepAlive
		cfg.Connection.UserProperties = []client.UserProperty{{Key: "site", Value: "4"}, {Key: "a", Value: ""}, {Key: "site", Value: "5"}}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		if got := fmt.Sprint(p.connect.User); got != "[{site 4} {a } {site 5}]" || p.connect.KeepAlive != 0 {
			t.Errorf("CONNECT has %s and Keep Alive %d", got, p.connect.KeepAlive)
		}
		connect(t, c)
		c.NetworkChanged()
		time.Sleep(24 * time.Hour)
		p.quiet()
		if n := pingsOf(p); n != 0 || !c.Connected() {
			t.Errorf("%d PINGREQ, connected %v", n, c.Connected())
		}
		p.close()
		p = s.accept(control.Connack{SessionPresent: true})
		if len(p.connect.User) != 3 {
			t.Errorf("the next CONNECT has %v", p.connect.User)
		}
	})
}

// Maximum QoS 2 in CONNACK is not allowed and unambiguous.
func TestConnack_MaximumQoS2(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{HasMaximumQoS: true, MaximumQoS: 2})
		connect(t, c)
		d := publish(t, c, "t", "x", client.ExactlyOnce)
		id := p.nextPublish().PacketID
		p.ack(wire.PUBREC, id, 0, "")
		p.nextAck(wire.PUBREL)
		p.ack(wire.PUBCOMP, id, 0, "")
		wantState(t, d, client.Acked)
	})
}

// With a Receive Maximum of n, n stored messages are in flight, also beside a status topic. A
// heartbeat takes the slot of the next acknowledgement.
func TestReceiveMaximum_IsUsedCompletely(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true, Heartbeat: 5 * time.Second}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 3})
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		var ids []uint16
		for range 5 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		for range 3 {
			ids = append(ids, p.nextPublish().PacketID)
		}
		time.Sleep(6 * time.Second)
		p.quiet()
		p.ack(wire.PUBACK, ids[0], 0, "")
		if m := p.nextPublish(); m.Topic != "s" {
			t.Errorf("%s came next, want the heartbeat", m.Topic)
		}
		p.quiet()
	})
}
