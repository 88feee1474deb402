package client_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// As in internal/status.
const (
	correctionGrace = 250 * time.Millisecond
	correctionMin   = time.Second
	correctionMax   = time.Minute
)

// listening is a client with a structured status topic that it listens to.
func listening(cfg *client.Config) {
	structured(func(s *client.Status) { s.NoCorrection = false })(cfg)
}

// says is what the retained status is: the state, the reason, and who said so.
func says(t testing.TB, b *mqtttest.Broker) presence.Status {
	t.Helper()
	synctest.Wait()
	got, ok := b.Retained("status/c")
	if !ok {
		t.Fatal("there is no retained status")
	}
	return parse(t, got)
}

// said wants the retained status to be this.
func said(t testing.TB, b *mqtttest.Broker, c *client.Client, want string) {
	t.Helper()
	s := says(t, b)
	if got := s.State.String() + " " + s.Reason; got != want || s.Boot != c.BootID() {
		t.Errorf("the status is %+v, want %s of %v", s, want, c.BootID())
	}
}

// stranger says things on the status topic that are not true.
func stranger(t testing.TB, b *mqtttest.Broker) func(payload string) {
	t.Helper()
	c := mustStart(t, testConfig("stranger", &recorder{}, b.Dial))
	connect(t, c)
	return func(payload string) {
		t.Helper()
		d, err := c.Publish(context.Background(), client.Message{Topic: "status/c", Payload: []byte(payload), QoS: client.AtLeastOnce, Retain: true})
		must(t, err)
		<-d.Done()
	}
}

const otherBoot = "00000000-0000-4000-8000-000000000001"

func offlineOf(boot string) string {
	return fmt.Sprintf(`{"state":"offline","boot":"%s","reason":"will"}`, boot)
}

func TestStatus_CorrectsLateOffline(t *testing.T) {
	for name, payload := range map[string]func(c *client.Client) string{
		"of an older boot":          func(*client.Client) string { return offlineOf(otherBoot) },
		"of an earlier connection":  func(c *client.Client) string { return offlineOf(c.BootID().String()) },
		"of an older version, bare": func(*client.Client) string { return "offline" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
				events := &recorder{}
				cfg := testConfig("c", events, b.Dial)
				listening(&cfg)
				c := mustStart(t, cfg)
				connect(t, c)
				say := stranger(t, b)
				time.Sleep(time.Hour)
				said(t, b, c, "online birth")
				began := time.Now()
				say(payload(c))
				if s := says(t, b); s.State != presence.Offline {
					t.Fatalf("the status is %+v", s)
				}
				must(t, b.WaitFor(t.Context(), func() bool {
					got, _ := b.Retained("status/c")
					return parse(t, got).State == presence.Online
				}))
				if took := time.Since(began); took > correctionGrace {
					t.Errorf("it took %v to be corrected", took)
				}
				said(t, b, c, "online correction")
				time.Sleep(time.Hour)
				st := c.Stats()
				if want := (client.StatusStats{Births: 1, Corrections: 1}); st.Status != want || st.Unhandled+st.Refused != 0 {
					t.Errorf("counted %+v", st)
				}
				if len(eventsOf[client.Unhandled](events))+len(eventsOf[client.StatusContested](events))+len(eventsOf[client.StatusFailed](events)) != 0 {
					t.Errorf("told %v", events.list)
				}
			})
		})
	}
}

func TestStatus_CorrectsPlainStatus(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, b.Dial)
		cfg.Presence.Status = &client.Status{Topic: "status/c", Online: []byte("1"), Offline: []byte("0")}
		c := mustStart(t, cfg)
		connect(t, c)
		say := stranger(t, b)
		for _, tt := range []struct{ said, then string }{
			{"0", "1"}, {"offline", "1"}, {offlineOf(otherBoot), "1"}, {"what?", "what?"}, {"", ""}, // the client does not judge the last two
		} {
			time.Sleep(time.Minute)
			say(tt.said)
			time.Sleep(time.Second)
			synctest.Wait()
			if got, _ := b.Retained("status/c"); string(got) != tt.then {
				t.Errorf("after %q the status is %q, want %q", tt.said, got, tt.then)
			}
		}
		if n := c.Stats().Status.Corrections; n != 3 {
			t.Errorf("%d corrections, want 3", n)
		}
	})
}

// TestStatus_CorrectsLateWillOfKilledProcess: the old process had another
// ClientID and a delay, so its will is sent when the new one has long been born.
func TestStatus_CorrectsLateWillOfKilledProcess(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		old := testConfig("container-1", &recorder{}, through(p))
		listening(&old)
		connect(t, mustStart(t, old))
		synctest.Wait()
		p.Refuse(true)
		p.Cut()
		cfg := testConfig("container-2", &recorder{}, b.Dial)
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		said(t, b, c, "online birth")
		time.Sleep(10 * time.Second)
		said(t, b, c, "online correction")
		if b.Stats().WillsPublished != 1 {
			t.Errorf("%d wills were published, want that of the old process", b.Stats().WillsPublished)
		}
	})
}

// TestStatus_KilledProcessRestarts under its ClientID, with a session or a new one.
func TestStatus_KilledProcessRestarts(t *testing.T) {
	for _, clean := range []bool{false, true} {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			store := usedStore(t)
			old := testConfig("c", &recorder{}, through(p))
			listening(&old)
			connect(t, mustStart(t, old))
			synctest.Wait()
			p.Blackhole(true) // the server has not noticed
			cfg := testConfig("c", &recorder{}, b.Dial)
			cfg.Store.Custom, cfg.Session.CleanStart = store, clean
			listening(&cfg)
			c := mustStart(t, cfg)
			connect(t, c)
			p.Refuse(true)
			time.Sleep(10 * time.Minute)
			said(t, b, c, "online birth")
			if n := c.Stats().Status.Corrections; n != 0 {
				t.Errorf("clean start %v: %d corrections, where the birth came after the will", clean, n)
			}
		})
	}
}

// TestStatus_IgnoresOfflineQueuedInSession: the offline message is in flight to the client when the client
// publishes its birth, which arrives after it.
func TestStatus_IgnoresOfflineQueuedInSession(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, through(p))
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		for range 5 {
			synctest.Wait()
			p.Refuse(true)
			p.Cut()
			time.Sleep(20 * time.Second)
			if s := says(t, b); s.State != presence.Offline || s.Reason != "will" {
				t.Errorf("while away the status is %+v", s)
			}
			p.Refuse(false)
			connect(t, c)
			time.Sleep(20 * time.Second)
			said(t, b, c, "online birth")
		}
		if got, want := c.Stats().Status, (client.StatusStats{Births: 6}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// TestStatus_BrokerLosesRetainedMessages gets a birth with the next connection.
func TestStatus_BrokerLosesRetainedMessages(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		var now atomic.Pointer[mqtttest.Broker]
		now.Store(b)
		cfg := testConfig("c", &recorder{}, func() net.Conn { return now.Load().Dial() })
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		said(t, b, c, "online birth")
		next := mqtttest.Start(t, mqtttest.With(mqtttest.Options{NoTCP: true}))
		now.Store(next)
		b.Kill()
		time.Sleep(10 * time.Second)
		said(t, next, c, "online birth")
		stranger(t, next)("offline") // and it is listened to again
		time.Sleep(time.Second)
		said(t, next, c, "online correction")
	})
}
