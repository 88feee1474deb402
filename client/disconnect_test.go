package client_test

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestCloseWith(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, tt := range map[string]struct {
		g      client.DisconnectOptions
		limit  uint32 // server's Maximum Packet Size
		expiry time.Duration
		want   control.Disconnect
	}{
		"nothing":        {g: client.DisconnectOptions{}, want: control.Disconnect{}},
		"with the will":  {g: client.DisconnectOptions{Reason: 0x04}, want: control.Disconnect{Reason: 0x04}},
		"an error":       {g: client.DisconnectOptions{Reason: 0x98, ReasonString: "maintenance"}, want: control.Disconnect{Reason: 0x98, ReasonString: "maintenance"}},
		"an expiry":      {g: client.DisconnectOptions{SessionExpiry: 90 * time.Second}, want: control.Disconnect{HasSessionExpiry: true, SessionExpiry: 90}},
		"no session":     {g: client.DisconnectOptions{SessionExpiry: client.NoSession}, want: control.Disconnect{HasSessionExpiry: true}},
		"none as before": {g: client.DisconnectOptions{SessionExpiry: client.NoSession}, expiry: client.NoSession, want: control.Disconnect{HasSessionExpiry: true}},
		"properties": {g: client.DisconnectOptions{UserProperties: []client.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}},
			want: control.Disconnect{User: []wire.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}}},
		"too much to tell": {g: client.DisconnectOptions{ReasonString: "r", UserProperties: []client.UserProperty{{Key: long, Value: long}}}, limit: 100,
			want: control.Disconnect{ReasonString: "r"}},
		"far too much to tell": {g: client.DisconnectOptions{ReasonString: long, UserProperties: []client.UserProperty{{Key: "k", Value: "v"}}}, limit: 100,
			want: control.Disconnect{}},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				cfg := testConfig("c", &recorder{}, s.dial)
				cfg.Session.Expiry = tt.expiry
				c := mustStart(t, cfg)
				p := s.accept(control.Connack{MaximumPacketSize: tt.limit})
				connect(t, c)
				must(t, c.CloseWith(tt.g))
				got, err := control.ParseDisconnect(p.ended())
				if err != nil || got.Reason != tt.want.Reason || got.ReasonString != tt.want.ReasonString ||
					got.HasSessionExpiry != tt.want.HasSessionExpiry || got.SessionExpiry != tt.want.SessionExpiry || len(got.User) != len(tt.want.User) {
					t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
				}
			})
		})
	}
}

// CloseWith rejects invalid options, and the client continues.
func TestCloseWith_RejectsInvalidOptions(t *testing.T) {
	for field, g := range map[string]client.DisconnectOptions{
		"Reason":         {Reason: 0x8E}, // only servers may send it
		"SessionExpiry":  {SessionExpiry: -2},
		"ReasonString":   {ReasonString: "\xff"},
		"UserProperties": {UserProperties: []client.UserProperty{{Key: "k", Value: "\x00"}}},
	} {
		withScript(t, func(t *testing.T, s *script) {
			c := mustStart(t, testConfig("c", &recorder{}, s.dial))
			p := s.accept(control.Connack{})
			connect(t, c)
			var bad *client.FieldError
			if err := c.CloseWith(g); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: %v", field, err)
			}
			p.quiet()
		})
	}
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Session.Expiry = client.NoSession
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		var bad *client.FieldError
		if err := c.CloseWith(client.DisconnectOptions{SessionExpiry: time.Second}); !errors.As(err, &bad) || bad.Field != "SessionExpiry" {
			t.Errorf("a session out of nothing: %v", err)
		}
		p.quiet()
	})
}

// CloseWith with such a reason code publishes no offline status, so the will does.
func TestCloseWith_LeavesStatusToWill(t *testing.T) {
	for _, reason := range []byte{0x04, 0x98} {
		withScript(t, func(t *testing.T, s *script) {
			cfg := testConfig("c", &recorder{}, s.dial)
			cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{})
			birth := p.nextPublish()
			p.ack(wire.PUBACK, birth.PacketID, 0, "")
			must(t, c.CloseWith(client.DisconnectOptions{Reason: reason}))
			if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != reason {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}

// The offline status waits for the only slot of the window, and DISCONNECT is sent with it.
func TestCloseWith_FullWindow(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 1})
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "") // online status
		publish(t, c, "t", "x", client.AtLeastOnce)
		x := p.nextPublish()
		closed := make(chan error, 1)
		go func() { closed <- c.Close() }()
		p.quiet()
		p.ack(wire.PUBACK, x.PacketID, 0, "")
		offline := p.nextPublish()
		if string(offline.Payload) != "offline" {
			t.Errorf("%q came", offline.Payload)
		}
		p.ack(wire.PUBACK, offline.PacketID, 0, "")
		if d, err := control.ParseDisconnect(p.next(wire.DISCONNECT)); err != nil || d.Reason != 0 {
			t.Errorf("got %+v, %v", d, err)
		}
		must(t, <-closed)
	})
}

func TestSessionLost_PolicyPerMessage(t *testing.T) {
	for _, config := range []client.SessionLostPolicy{client.AsConfigured, client.Republish, client.FailInFlight} {
		withScript(t, func(t *testing.T, s *script) {
			var events recorder
			cfg := testConfig("c", &events, s.dial)
			cfg.Session.OnLost = config
			c := mustStart(t, cfg)
			p := s.accept(control.Connack{})
			deliveries := map[client.SessionLostPolicy]*client.Delivery{}
			for _, policy := range []client.SessionLostPolicy{client.AsConfigured, client.Republish, client.FailInFlight} {
				d, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte{'0' + byte(policy)}, QoS: client.ExactlyOnce, OnSessionLost: policy})
				must(t, err)
				deliveries[policy] = d
				p.nextPublish()
			}
			p.close()
			p = s.accept(control.Connack{SessionPresent: false})
			again := 0
			for _, policy := range []client.SessionLostPolicy{client.AsConfigured, client.Republish, client.FailInFlight} {
				fails := policy == client.FailInFlight || policy == client.AsConfigured && config == client.FailInFlight
				if fails {
					if o := wantState(t, deliveries[policy], client.Dropped); !errors.Is(o.Err, client.ErrSessionLost) {
						t.Errorf("%v: %v", policy, o.Err)
					}
					continue
				}
				again++
				if m := p.nextPublish(); string(m.Payload) != string('0'+byte(policy)) || m.Dup {
					t.Errorf("%v: %q was resent", policy, m.Payload)
				}
			}
			p.quiet()
			if e := eventsOf[client.SessionLost](&events); len(e) != 1 || lostCounts(e[0]) != ([3]int{3, again, 3 - again}) {
				t.Errorf("told: %+v", e)
			}
			var bad *client.FieldError
			if _, err := c.Publish(t.Context(), client.Message{Topic: "t", OnSessionLost: client.FailInFlight + 1}); !errors.As(err, &bad) || bad.Field != "OnSessionLost" {
				t.Errorf("no such policy: %v", err)
			}
			wantAccounts(t, c)
		})
	}
}

// brokenPipe is a connection that the server has closed after a DISCONNECT that is not read yet.
type brokenPipe struct {
	net.Conn
	broken atomic.Bool
	wrote  chan struct{}
}

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.broken.Load() {
		b.wrote <- struct{}{}
		return 0, syscall.EPIPE
	}
	return b.Conn.Write(p)
}

// A DISCONNECT that was received before a failed write and read after it still counts: after a
// takeover, the client must not reconnect at once.
func TestDisconnect_IsReadAfterFailedWrite(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		pipe := &brokenPipe{wrote: make(chan struct{}, 9)}
		first := true
		cfg := testConfig("c", &events, func() net.Conn {
			if nc := s.dial(); !first {
				return nc
			} else {
				first, pipe.Conn = false, nc
			}
			return pipe
		})
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		synctest.Wait()
		pipe.broken.Store(true)
		publish(t, c, "t", "x", client.AtLeastOnce)
		<-pipe.wrote
		synctest.Wait()
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E}))
		synctest.Wait()
		var taken *client.ConnectionError
		if got := eventsOf[client.Disconnected](&events); len(got) != 1 || !errors.As(got[0].Err, &taken) || taken.Code != 0x8E || got[0].Action != reliability.ActionTakenOver {
			t.Errorf("Disconnected events are %+v", got)
		}
		// Without a DISCONNECT, the connection ends too.
		p = s.accept(control.Connack{})
		connect(t, c)
		p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
	})
}
