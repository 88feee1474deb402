package client_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// addressed dials the script and writes down which server was asked for.
type addressed struct {
	*script
	asked chan string
}

func (a addressed) config(events *recorder, servers ...string) client.Config {
	cfg := testConfig("c", events, nil)
	cfg.Servers = servers
	cfg.Connection.Backoff = reliability.Backoff{Min: time.Second, Max: time.Minute, Rand: func() float64 { return 0 }}
	cfg.Connection.Dial = func(_ context.Context, u *url.URL) (net.Conn, error) {
		a.asked <- u.Host
		return a.dial(), nil
	}
	return cfg
}

func withServers(t *testing.T, test func(t *testing.T, a addressed)) {
	t.Helper()
	withScript(t, func(t *testing.T, s *script) { test(t, addressed{s, make(chan string, 1024)}) })
}

// next is the server of the next attempt, and when it came.
func (a addressed) next(began time.Time) string {
	a.t.Helper()
	return fmt.Sprint(<-a.asked, " ", time.Since(began).Round(time.Millisecond))
}

func (a addressed) want(began time.Time, want string) {
	a.t.Helper()
	if got := a.next(began); got != want {
		a.t.Errorf("the next attempt was at %s, want %s", got, want)
	}
}

func TestState_MatchesEvents(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		var events recorder
		cfg := a.config(&events, "mqtt://one", "mqtt://two")
		c := mustNew(t, cfg)
		began := time.Now()
		want := func(phase client.Phase, since time.Duration, server string, attempt int, failed bool, retry time.Duration) {
			t.Helper()
			synctest.Wait()
			s := c.State()
			if s.Phase != phase || s.Since.Sub(began) != since || s.Server != server || s.Attempt != attempt || (s.Err != nil) != failed {
				t.Errorf("%+v, want %v since %v at %q, attempt %d, failed %v", s, phase, since, server, attempt, failed)
			}
			if retry == 0 && !s.RetryAt.IsZero() || retry > 0 && s.RetryAt.Sub(began) != retry {
				t.Errorf("the next attempt is at %v, want %v", s.RetryAt.Sub(began), retry)
			}
		}
		want(client.PhaseIdle, 0, "", 0, false, 0)
		time.Sleep(time.Second)
		start(t, c)
		want(client.PhaseConnecting, time.Second, "mqtt://one:1883", 1, false, 0)
		p := a.open()
		time.Sleep(time.Second)
		p.close() // the other server is next, without a delay
		want(client.PhaseConnecting, 2*time.Second, "mqtt://two:1883", 2, true, 0)
		p = a.open()
		time.Sleep(time.Second)
		p.close()
		want(client.PhaseWaiting, 3*time.Second, "mqtt://two:1883", 2, true, 4*time.Second)
		time.Sleep(time.Second)
		want(client.PhaseConnecting, 4*time.Second, "mqtt://one:1883", 3, true, 0)
		p = a.open()
		time.Sleep(2 * time.Second)
		p.send(control.AppendConnack(nil, &control.Connack{}))
		want(client.PhaseConnected, 6*time.Second, "mqtt://one:1883", 3, false, 0)
		time.Sleep(time.Minute)
		p.close()
		want(client.PhaseWaiting, 66*time.Second, "mqtt://one:1883", 0, true, 67*time.Second)
		time.Sleep(time.Second)
		want(client.PhaseConnecting, 67*time.Second, "mqtt://one:1883", 1, true, 0)
		must(t, c.Close())
		want(client.PhaseEnded, 67*time.Second, "mqtt://one:1883", 1, false, 0)

		failed, up, down := eventsOf[client.ConnectFailed](&events), eventsOf[client.Connected](&events), eventsOf[client.Disconnected](&events)
		if len(failed) != 2 || failed[0].Attempt != 1 || failed[0].Took != time.Second || failed[0].Delay != 0 || failed[0].Action != reliability.ActionRetry ||
			failed[1].Attempt != 2 || failed[1].Delay != time.Second {
			t.Errorf("failed: %+v", failed)
		}
		if len(up) != 1 || up[0].Attempt != 3 || up[0].Took != 2*time.Second {
			t.Errorf("connected: %+v", up)
		}
		if len(down) != 1 || down[0].After != time.Minute || down[0].Delay != time.Second {
			t.Errorf("disconnected: %+v", down)
		}
		if stopped := eventsOf[client.Stopped](&events); len(stopped) != 1 || stopped[0].Err != nil {
			t.Errorf("stopped: %+v", stopped)
		}
	})
	if s := fmt.Sprint(client.PhaseIdle, client.PhaseEnded, client.Phase(99)); s != "idle ended phase(99)" {
		t.Error(s)
	}
}

func TestNetworkChanged(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Connection.Backoff = reliability.Backoff{Min: time.Hour, Max: 100 * time.Hour, Rand: func() float64 { return 0.999_999_999_999 }}
		c := mustStart(t, cfg)
		c.NetworkChanged() // during an attempt: the next one follows at once
		<-a.asked
		a.open().close()
		began := time.Now()
		a.want(began, "one:1883 0s")
		a.open().close()
		time.Sleep(10 * time.Minute)
		for range 3 {
			c.NetworkChanged()
		}
		a.want(began, "one:1883 10m0s")
		p := a.accept(control.Connack{})
		c.NetworkChanged() // nothing to do
		p.quiet()
		p.close()
		began = time.Now()
		a.want(began, "one:1883 2h0m0s") // and the delays began anew
	})
}

func TestNetworkChanged_DoesNotDelayAttempts(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Connection.Backoff = reliability.Backoff{Min: 50 * time.Millisecond, Max: 50 * time.Millisecond}
		c := mustStart(t, cfg)
		for range 4 {
			<-a.asked
			(<-a.conns).Close()
			began := time.Now()
			synctest.Wait()
			c.NetworkChanged()
			<-a.asked
			if d := time.Since(began); d > 50*time.Millisecond {
				t.Errorf("the attempt came after %v", d)
			}
			(<-a.conns).Close()
		}
	})
}

// Where CONNACK takes longer than subscriptions are waited for, they still come
// first.
func TestConnect_SubscribesFirstOnSlowLink(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		for i := range 41 {
			must1(c.Subscribe(t.Context(), fmt.Sprint("t/", i), client.AtLeastOnce, newInbox()))
		}
		publish(t, c, "t/40", "x", client.AtLeastOnce)
		start(t, c)
		p := s.open()
		time.Sleep(10 * time.Second)
		p.send(control.AppendConnack(nil, &control.Connack{}))
		for range 41 {
			time.Sleep(20 * time.Millisecond)
			p.grantSubscribe()
		}
		p.nextPublish()
	})
}

// A resent birth and PUBRELs fill the send window. A Publish in OnEvent wakes the drainer before the
// client has finished the resend on the connection.
func TestStatus_BirthWithFullWindowOfPubrels(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
		var c *client.Client
		n := 0
		cfg.OnEvent = func(e client.Event) {
			if _, ok := e.(client.Connected); ok {
				if n++; n == 2 {
					_, _ = c.Publish(context.Background(), client.Message{Topic: "hello", QoS: client.AtLeastOnce})
					time.Sleep(time.Millisecond)
				}
			}
		}
		c = mustStart(t, cfg)
		p := s.accept(control.Connack{})
		birth := p.nextPublish() // never acknowledged
		for range 3 {
			publish(t, c, "t", "x", client.ExactlyOnce)
		}
		var ids []uint16
		for range 3 {
			ids = append(ids, p.nextPublish().PacketID)
		}
		for _, id := range ids {
			p.ack(wire.PUBREC, id, 0, "")
		}
		for range 3 {
			p.nextAck(wire.PUBREL)
		}
		p.close()
		p = s.open()
		time.Sleep(2 * time.Second)
		p.send(control.AppendConnack(nil, &control.Connack{SessionPresent: true, ReceiveMaximum: 1}))
		if m := p.nextPublish(); m.PacketID != birth.PacketID || !m.Dup {
			t.Errorf("first came %+v, want the birth again", m)
		}
		for range 3 {
			p.nextAck(wire.PUBREL)
		}
	})
}

// The client keeps a server that answers at once while the client's own reader stalls.
func TestSubscribe_ReadStallIsNotATimeout(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes, cfg.Connection.AckTimeout, cfg.Connection.KeepAlive = 2048, 2048, 10*time.Second, time.Hour
		c := mustNew(t, cfg)
		must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error { time.Sleep(6 * time.Second); return nil })))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		for i := range 3 {
			go p.publish(wire.Publish{Topic: "t", Payload: make([]byte, 1500), QoS: 1, PacketID: uint16(i + 1)})
			synctest.Wait()
		}
		subscribed := make(chan error, 1)
		go func() { subscribed <- errOf(c.Subscribe(context.Background(), "x", client.AtLeastOnce, newInbox())) }()
		synctest.Wait()
		go p.grantSubscribe()
		must(t, <-subscribed)
		if e := eventsOf[client.Disconnected](&events); len(e) > 0 || c.Stats().ReadStalls == 0 {
			t.Errorf("%+v, %d stalls", e, c.Stats().ReadStalls)
		}
		// One that does not answer still is.
		go func() { subscribed <- errOf(c.Subscribe(context.Background(), "y", client.AtLeastOnce, newInbox())) }()
		began := time.Now()
		<-subscribed
		p.ended()
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}
