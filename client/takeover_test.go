package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestTakeover_BacksOff(t *testing.T) {
	takeover := control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E})
	t.Run("back off", func(t *testing.T) {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			mustStart(t, a.config(&events, "mqtt://one"))
			<-a.asked
			p := a.accept(control.Connack{})
			for range 10 {
				time.Sleep(time.Hour) // however long it was up
				p.send(takeover)
				began := time.Now()
				a.want(began, "one:1883 30s")
				if p = a.accept(control.Connack{}); !p.connect.CleanStart {
					t.Error("the session that the other has used is resumed")
				}
			}
			if e := eventsOf[client.Disconnected](&events); e[0].Action != reliability.ActionTakenOver || e[0].After != time.Hour || e[0].Delay != 30*time.Second {
				t.Errorf("%+v", e[0])
			}
		})
	})
	t.Run("stop", func(t *testing.T) {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			cfg := a.config(&events, "mqtt://one")
			cfg.Session.OnTakeover = client.TakeoverStop
			c := mustStart(t, cfg)
			p := a.accept(control.Connack{})
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			p.nextPublish()
			p.send(takeover)
			<-c.Done()
			var ended *client.ConnectionError
			if err := c.Err(); !errors.As(err, &ended) || ended.Code != wire.ReasonSessionTakenOver {
				t.Errorf("it stopped with %v", err)
			}
			wantState(t, d, client.Abandoned)
			if s := c.State(); s.Phase != client.PhaseEnded || !errors.As(s.Err, &ended) {
				t.Errorf("%+v", s)
			}
		})
	})
}

// A takeover is remembered across a restart, because the other client may have used the packet identifiers
// that this client would use next.
func TestTakeover_SurvivesRestart(t *testing.T) {
	for name, policy := range map[string]client.TakeoverPolicy{"stop": client.TakeoverStop, "back off": client.TakeoverBackOff} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
				in := newInbox()
				sub := mustStart(t, testConfig("sub", &recorder{}, through(proxy)))
				connect(t, sub)
				must1(sub.Subscribe(t.Context(), "t", client.ExactlyOnce, in))
				store := persistence.NewMemory(persistence.Options{})
				var events recorder
				cfg := testConfig("c", &events, through(proxy))
				cfg.Store.Custom, cfg.Session.OnTakeover = store, policy
				c := mustStart(t, cfg)
				connect(t, c)

				// The other client resumes the session, begins a QoS 2 message with the packet
				// identifier of this client's first message, and ends without DISCONNECT.
				nc := b.Dial()
				r := wire.NewReader(nc, 0)
				_, err := nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: "c", SessionExpiry: 3600}))
				must(t, err)
				_, err = r.Next()
				must(t, err)
				synctest.Wait()
				theirs := wire.Publish{Topic: "t", Payload: []byte("theirs"), QoS: 2, PacketID: 1026}
				_, err = nc.Write(wire.AppendImage(nil, wire.AppendPublish(nil, &theirs), 1026, false, 0))
				must(t, err)
				_, err = r.Next()
				must(t, err)
				must(t, nc.Close())
				_ = c.Close()

				cfg.Store.Custom = store.Reopen()
				cfg.Session.Mode = client.StrictSession
				strict := mustStart(t, cfg)
				select {
				case <-strict.Done():
				case <-time.After(time.Minute):
					t.Fatal("a strict client goes on with a session that was taken over")
				}
				var differs *client.SessionError
				if !errors.As(strict.Err(), &differs) || !differs.TakenOver {
					t.Errorf("a strict client stopped with %v", strict.Err())
				}
				cfg.Session.Mode = client.ResumeSession
				c = mustStart(t, cfg)
				d := publish(t, c, "t", "own", client.ExactlyOnce)
				wantState(t, d, client.Acked)
				if list := in.await(t, 2); string(list[1].Payload) != "own" {
					t.Errorf("the subscriber has %q", in.payloads())
				}
			})
		})
	}
}
