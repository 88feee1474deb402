package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// addressed dials the script and writes down which server was asked for.
type addressed struct {
	*script
	asked chan string
}

func (a addressed) config(events *recorder, servers ...string) Config {
	cfg := testConfig("c", events, nil)
	cfg.Servers = servers
	cfg.Backoff = reliability.Backoff{Min: time.Second, Max: time.Minute, Rand: func() float64 { return 0 }}
	cfg.Dial = func(_ context.Context, u *url.URL) (net.Conn, error) {
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

func TestAServerReferenceIsFollowed(t *testing.T) {
	for name, tt := range map[string]struct {
		reason    byte
		reference string
		ignore    bool
		want      []string // attempts; the first server sends on, others refuse
	}{
		"for once":          {0x9C, "else:1999", false, []string{"one:1883 0s", "else:1999 1s", "one:1883 2s", "else:1999 3s"}},
		"for good":          {0x9D, "else", false, []string{"one:1883 0s", "else:1883 1s", "two:1883 2s", "else:1883 3s"}},
		"the first that is": {0x9C, "one:1883 [::1]:7", false, []string{"one:1883 0s", "[::1]:7 1s"}},
		"none is named":     {0x9C, "", false, []string{"one:1883 0s", "two:1883 1s"}},
		"nonsense":          {0x9D, "?? mqtts:// a@b", false, []string{"one:1883 0s", "two:1883 1s"}},
		"ignored":           {0x9D, "else", true, []string{"one:1883 0s", "two:1883 1s"}},
	} {
		for _, how := range []string{"CONNACK", "DISCONNECT"} {
			t.Run(name+" by "+how, func(t *testing.T) {
				withServers(t, func(t *testing.T, a addressed) {
					var events recorder
					cfg := a.config(&events, "mqtt://one", "mqtt://two")
					cfg.IgnoreRedirects = tt.ignore
					began := time.Now()
					mustStart(t, cfg)
					for _, want := range tt.want {
						a.want(began, want)
						switch {
						case !strings.HasPrefix(want, "one"):
							a.accept(control.Connack{Reason: 0x88})
						case how == "CONNACK":
							a.accept(control.Connack{Reason: tt.reason, ServerReference: tt.reference})
						default:
							a.accept(control.Connack{}).send(control.AppendDisconnect(nil, &control.Disconnect{Reason: tt.reason, ServerReference: tt.reference}))
						}
					}
					synctest.Wait()
					for _, e := range eventsOf[Redirected](&events) {
						if e.From != "mqtt://one:1883" || e.Permanent != (tt.reason == 0x9D) || tt.ignore {
							t.Errorf("%+v", e)
						}
					}
					if n := len(eventsOf[Redirected](&events)); (n > 0) != (len(tt.want) > 2 || strings.HasPrefix(tt.want[1], "[")) {
						t.Errorf("%d redirections were told", n)
					}
				})
			})
		}
	}
}

// Two servers that name each other do not have us run between them for ever.
func TestRedirectionsEnd(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		began := time.Now()
		mustStart(t, a.config(&recorder{}, "mqtt://one"))
		var path []string
		for range 8 {
			at := a.next(began)
			path = append(path, at)
			other := "one"
			if strings.HasPrefix(at, "one") {
				other = "two"
			}
			a.accept(control.Connack{Reason: 0x9C, ServerReference: other})
		}
		// After five the list begins again, without a new count of delays.
		if got := strings.Join(path, ", "); got != "one:1883 0s, two:1883 1s, one:1883 2s, two:1883 3s, one:1883 4s, two:1883 5s, one:1883 6s, two:1883 7s" {
			t.Errorf("the way was %s", got)
		}
		<-a.asked
		p := a.accept(control.Connack{})
		time.Sleep(time.Minute) // stable: what was is forgotten
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x9C, ServerReference: "two"}))
		if got := <-a.asked; got != "two:1883" {
			t.Errorf("sent to two, it went to %s", got)
		}
	})
}

func TestAServerWithoutRoomIsLeftAlone(t *testing.T) {
	for _, reason := range []byte{0x89, 0x97, 0x9F} {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			began := time.Now()
			mustStart(t, a.config(&events, "mqtt://one"))
			a.want(began, "one:1883 0s")
			a.accept(control.Connack{Reason: reason})
			a.want(began, "one:1883 30s")
			if e := eventsOf[ConnectFailed](&events)[0]; e.Action != reliability.RetryLater || e.Delay != 30*time.Second || e.Attempt != 1 {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestATakeoverIsNoDuel(t *testing.T) {
	takeover := control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E})
	t.Run("back off", func(t *testing.T) {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			mustStart(t, a.config(&events, "mqtt://one"))
			<-a.asked
			p := a.accept(control.Connack{})
			for range 10 {
				time.Sleep(time.Hour) // however long it stood
				p.send(takeover)
				began := time.Now()
				a.want(began, "one:1883 30s")
				if p = a.accept(control.Connack{}); !p.connect.CleanStart {
					t.Error("the session that the other has used is resumed")
				}
			}
			if e := eventsOf[Disconnected](&events); e[0].Action != reliability.GiveWay || e[0].After != time.Hour || e[0].Delay != 30*time.Second {
				t.Errorf("%+v", e[0])
			}
		})
	})
	t.Run("stop", func(t *testing.T) {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			cfg := a.config(&events, "mqtt://one")
			cfg.OnTakeover = TakeoverStop
			c := mustStart(t, cfg)
			p := a.accept(control.Connack{})
			d := publish(t, c, "t", "x", AtLeastOnce)
			p.nextPublish()
			p.send(takeover)
			<-c.Done()
			var ended *ConnectionError
			if err := c.Err(); !errors.As(err, &ended) || ended.Code != wire.ReasonSessionTakenOver {
				t.Errorf("it stopped with %v", err)
			}
			wantState(t, d, Abandoned)
			if s := c.State(); s.Phase != PhaseEnded || !errors.As(s.Err, &ended) {
				t.Errorf("%+v", s)
			}
		})
	})
}

func TestTheStateAndItsEvents(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		var events recorder
		cfg := a.config(&events, "mqtt://one", "mqtt://two")
		c := mustNew(t, cfg)
		began := time.Now()
		want := func(phase Phase, since time.Duration, server string, attempt int, failed bool, retry time.Duration) {
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
		want(PhaseIdle, 0, "", 0, false, 0)
		time.Sleep(time.Second)
		start(t, c)
		want(PhaseConnecting, time.Second, "mqtt://one:1883", 1, false, 0)
		p := a.open()
		time.Sleep(time.Second)
		p.close()
		want(PhaseWaiting, 2*time.Second, "mqtt://one:1883", 1, true, 3*time.Second)
		time.Sleep(time.Second)
		want(PhaseConnecting, 3*time.Second, "mqtt://two:1883", 2, true, 0)
		p = a.open()
		time.Sleep(2 * time.Second)
		p.send(control.AppendConnack(nil, &control.Connack{}))
		want(PhaseConnected, 5*time.Second, "mqtt://two:1883", 2, false, 0)
		time.Sleep(time.Minute)
		p.close()
		want(PhaseWaiting, 65*time.Second, "mqtt://two:1883", 0, true, 66*time.Second)
		time.Sleep(time.Second)
		want(PhaseConnecting, 66*time.Second, "mqtt://two:1883", 1, true, 0)
		must(t, c.Close())
		want(PhaseEnded, 66*time.Second, "mqtt://two:1883", 1, false, 0)

		failed, up, down := eventsOf[ConnectFailed](&events), eventsOf[Connected](&events), eventsOf[Disconnected](&events)
		if len(failed) != 1 || failed[0].Attempt != 1 || failed[0].Took != time.Second || failed[0].Delay != time.Second || failed[0].Action != reliability.Retrying {
			t.Errorf("failed: %+v", failed)
		}
		if len(up) != 1 || up[0].Attempt != 2 || up[0].Took != 2*time.Second {
			t.Errorf("connected: %+v", up)
		}
		if len(down) != 1 || down[0].After != time.Minute || down[0].Delay != time.Second {
			t.Errorf("disconnected: %+v", down)
		}
		if stopped := eventsOf[Stopped](&events); len(stopped) != 1 || stopped[0].Err != nil {
			t.Errorf("stopped: %+v", stopped)
		}
	})
	if s := fmt.Sprint(PhaseIdle, PhaseEnded, Phase(99)); s != "idle ended phase(99)" {
		t.Error(s)
	}
}

func TestNetworkChanged(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Backoff = reliability.Backoff{Min: time.Hour, Max: 100 * time.Hour, Rand: func() float64 { return 0.999_999_999_999 }}
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

// A server that only sends on, and a target that is down for a while: it is found
// when it is back.
func TestRedirectionsAreFollowedAgain(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		began := time.Now()
		mustStart(t, a.config(&recorder{}, "mqtt://one"))
		for {
			switch at := <-a.asked; {
			case strings.HasPrefix(at, "one"):
				a.accept(control.Connack{Reason: 0x9C, ServerReference: "two"})
			case time.Since(began) < time.Hour:
				(<-a.conns).Close()
			default:
				a.accept(control.Connack{})
				if d := time.Since(began); d > time.Hour+time.Minute {
					t.Errorf("connected after %v", d)
				}
				return
			}
		}
	})
}

// What a server says that is in no list is not for good: nothing is replaced.
func TestADetourCannotMoveForGood(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		var events recorder
		mustStart(t, a.config(&events, "mqtt://one"))
		answers := map[string]control.Connack{"one:1883": {Reason: 0x9C, ServerReference: "two"}, "two:1883": {Reason: 0x9D, ServerReference: "three"}, "three:1883": {Reason: 0x88}}
		var path []string
		for range 4 {
			at := <-a.asked
			path = append(path, at)
			a.accept(answers[at])
		}
		if got := strings.Join(path, " "); got != "one:1883 two:1883 three:1883 one:1883" {
			t.Errorf("the way was %s", got)
		}
		for _, e := range eventsOf[Redirected](&events) {
			if e.Permanent {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestNetworkChangedPutsNothingOff(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Backoff = reliability.Backoff{Min: 50 * time.Millisecond, Max: 50 * time.Millisecond}
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

// What another client did with our session is not forgotten by a restart: its
// packet identifiers may be the ones that we would use.
func TestATakeoverOutlivesTheProcess(t *testing.T) {
	for name, policy := range map[string]TakeoverPolicy{"stop": TakeoverStop, "back off": TakeoverBackOff} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
				in := newInbox()
				sub := mustStart(t, testConfig("sub", &recorder{}, through(proxy)))
				connect(t, sub)
				must(t, sub.Subscribe(t.Context(), "t", ExactlyOnce, in))
				store := persistence.NewMemory(persistence.Options{})
				var events recorder
				cfg := testConfig("c", &events, through(proxy))
				cfg.Store, cfg.OnTakeover = store, policy
				c := mustStart(t, cfg)
				connect(t, c)

				// The other resumes the session, begins a QoS 2 message under the identifier
				// that our first will have, and dies.
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

				cfg.Store = store.Reopen()
				cfg.Session = StrictSession
				strict := mustStart(t, cfg)
				<-strict.Done()
				var differs *SessionError
				if !errors.As(strict.Err(), &differs) || !differs.TakenOver {
					t.Errorf("a strict client stopped with %v", strict.Err())
				}
				cfg.Session = ResumeSession
				c = mustStart(t, cfg)
				d := publish(t, c, "t", "ours", ExactlyOnce)
				wantState(t, d, Acked)
				if list := in.await(t, 2); string(list[1].Payload) != "ours" {
					t.Errorf("the subscriber has %q", in.payloads())
				}
			})
		})
	}
}

// Where CONNACK takes longer than subscriptions are waited for, they still come
// first.
func TestOwnSubscriptionsComeFirstOnASlowLink(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		for i := range 41 { // two SUBSCRIBEs
			must(t, c.Subscribe(t.Context(), fmt.Sprint("t/", i), AtLeastOnce, newInbox()))
		}
		publish(t, c, "t/40", "x", AtLeastOnce)
		start(t, c)
		p := s.open()
		time.Sleep(10 * time.Second)
		p.send(control.AppendConnack(nil, &control.Connack{}))
		for range 2 {
			time.Sleep(100 * time.Millisecond)
			p.grantSubscribe()
		}
		p.nextPublish()
	})
}

// A birth that came again and PUBRELs take all the room there is; a Publish from
// OnEvent wakes the drainer before the connection is brought up to date.
func TestABirthBehindMorePubrelsThanHaveRoom(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Status = &Status{Topic: "s", NoCorrection: true}
		var c *Client
		n := 0
		cfg.OnEvent = func(e Event) {
			if _, ok := e.(Connected); ok {
				if n++; n == 2 {
					_, _ = c.Publish(context.Background(), Message{Topic: "hello", QoS: AtLeastOnce})
					time.Sleep(time.Millisecond)
				}
			}
		}
		c = mustStart(t, cfg)
		p := s.accept(control.Connack{})
		birth := p.nextPublish() // never acknowledged
		for range 3 {
			publish(t, c, "t", "x", ExactlyOnce)
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

// A server that answers at once is not given up because our reader stalls.
func TestStallsAreNotHeldAgainstARequest(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.MaximumPacketSize, cfg.MaxInboundBytes, cfg.AckTimeout, cfg.KeepAlive = 2048, 2048, 10*time.Second, time.Hour
		c := mustNew(t, cfg)
		must(t, c.Handle("t", HandlerFunc(func(context.Context, *Message) error { time.Sleep(6 * time.Second); return nil })))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		for i := range 3 {
			go p.publish(wire.Publish{Topic: "t", Payload: make([]byte, 1500), QoS: 1, PacketID: uint16(i + 1)})
			synctest.Wait()
		}
		subscribed := make(chan error, 1)
		go func() { subscribed <- c.Subscribe(context.Background(), "x", AtLeastOnce, newInbox()) }()
		synctest.Wait()
		go p.grantSubscribe()
		must(t, <-subscribed)
		if e := eventsOf[Disconnected](&events); len(e) > 0 || c.Stats().ReadStalls == 0 {
			t.Errorf("%+v, %d stalls", e, c.Stats().ReadStalls)
		}
		// One that does not answer still is.
		go func() { subscribed <- c.Subscribe(context.Background(), "y", AtLeastOnce, newInbox()) }()
		began := time.Now()
		<-subscribed
		p.ended()
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}
