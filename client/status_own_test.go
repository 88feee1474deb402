package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// listening is a client with a structured status topic that it listens to.
func listening(cfg *Config) { structured(func(s *Status) { s.NoCorrection = false })(cfg) }

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
func said(t testing.TB, b *mqtttest.Broker, c *Client, want string) {
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
		d, err := c.Publish(context.Background(), Message{Topic: "status/c", Payload: []byte(payload), QoS: AtLeastOnce, Retain: true})
		must(t, err)
		<-d.Done()
	}
}

const otherBoot = "00000000-0000-4000-8000-000000000001"

func offlineOf(boot string) string {
	return fmt.Sprintf(`{"state":"offline","boot":"%s","reason":"will"}`, boot)
}

func TestAnOfflineThatComesLateIsCorrected(t *testing.T) {
	for name, payload := range map[string]func(c *Client) string{
		"of an older boot":          func(*Client) string { return offlineOf(otherBoot) },
		"of an earlier connection":  func(c *Client) string { return offlineOf(c.BootID().String()) },
		"of an older version, bare": func(*Client) string { return "offline" },
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
				if want := (StatusStats{Births: 1, Corrections: 1}); st.Status != want || st.Unhandled+st.Refused != 0 {
					t.Errorf("counted %+v", st)
				}
				if len(eventsOf[Unhandled](events))+len(eventsOf[StatusContested](events))+len(eventsOf[StatusFailed](events)) != 0 {
					t.Errorf("told %v", events.list)
				}
			})
		})
	}
}

func TestAPlainStatusIsCorrected(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, b.Dial)
		cfg.Status = &Status{Topic: "status/c", Online: []byte("1"), Offline: []byte("0")}
		c := mustStart(t, cfg)
		connect(t, c)
		say := stranger(t, b)
		for _, tt := range []struct{ said, then string }{
			{"0", "1"}, {"offline", "1"}, {offlineOf(otherBoot), "1"}, {"what?", "what?"}, {"", ""}, // the last two are not ours to judge
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

func TestNoCorrection(t *testing.T) {
	publishing(t, structured(), control.Connack{}, func(t *testing.T, c *Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		p.accepts(m)
		p.publish(wire.Publish{Topic: "status/c", Payload: []byte("offline")})
		time.Sleep(time.Hour)
		p.quiet()
	})
}

// TestTheWillOfAKilledProcessComesBehindTheNextOne: the old process had another
// ClientID and a delay, so its will is sent when the new one has long been born.
func TestTheWillOfAKilledProcessComesBehindTheNextOne(t *testing.T) {
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

// TestAKilledProcessComesBack under its ClientID, with a session or a new one.
func TestAKilledProcessComesBack(t *testing.T) {
	for _, clean := range []bool{false, true} {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			store := usedStore(t)
			old := testConfig("c", &recorder{}, through(p))
			listening(&old)
			connect(t, mustStart(t, old))
			synctest.Wait()
			p.Blackhole(true) // the server has not noticed
			cfg := testConfig("c", &recorder{}, b.Dial)
			cfg.Store, cfg.CleanStart = store, clean
			listening(&cfg)
			c := mustStart(t, cfg)
			connect(t, c)
			p.Refuse(true)
			time.Sleep(10 * time.Minute)
			said(t, b, c, "online birth")
			if n := c.Stats().Status.Corrections; n != 0 {
				t.Errorf("clean start %v: %d corrections, where the birth came behind the will", clean, n)
			}
		})
	}
}

// TestAnOfflineThatWaitedInTheSessionIsNotCorrected: it is on its way to us when we
// are born, and the birth comes behind it.
func TestAnOfflineThatWaitedInTheSessionIsNotCorrected(t *testing.T) {
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
		if got, want := c.Stats().Status, (StatusStats{Births: 6}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// TestABrokerThatLostItsRetainedMessages gets a birth with the next connection.
func TestABrokerThatLostItsRetainedMessages(t *testing.T) {
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

// TestCorrectionsAreLimited: someone answers each online with offline, for ever.
func TestCorrectionsAreLimited(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		listening(&cfg)
		mustStart(t, cfg)
		p := s.accept(control.Connack{})
		var at []time.Duration
		began := time.Now()
		m, _ := p.nextWord("birth")
		p.grantSubscribe()
		for range 12 {
			p.accepts(m)
			p.publish(wire.Publish{Topic: "status/c", Payload: m.Payload})
			p.publish(wire.Publish{Topic: "status/c", Payload: []byte(offlineOf(otherBoot))})
			m, _ = p.nextWord("correction")
			at = append(at, time.Since(began))
		}
		for i := range at {
			gap := at[i]
			if i > 0 {
				gap -= at[i-1]
			}
			if want := []time.Duration{correctionGrace, 1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9, 60e9, 60e9, 60e9}[i]; gap != want {
				t.Errorf("correction %d came after %v, want %v", i, gap, want)
			}
		}
		p.accepts(m)
		time.Sleep(2 * correctionMax) // it has ended
		began = time.Now()
		for i := range 2 {
			p.publish(wire.Publish{Topic: "status/c", Payload: []byte(offlineOf(otherBoot))})
			m, _ = p.nextWord("correction")
			if gap, want := time.Since(began), []time.Duration{correctionGrace, correctionGrace + correctionMin}[i]; gap != want {
				t.Errorf("after quiet, correction %d came after %v, want %v", i, gap, want)
			}
			p.accepts(m)
		}
	})
}

// TestTwoProcessesDoNotDuel: they share a status topic by mistake. Both say so, both
// stay online in turn, and neither answers the other.
func TestTwoProcessesDoNotDuel(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		words := newInbox()
		watcher := mustStart(t, testConfig("w", &recorder{}, b.Dial))
		connect(t, watcher)
		must(t, watcher.Subscribe(t.Context(), "status/+", AtLeastOnce, words))
		steady, flapping := &recorder{}, &recorder{}
		cfg := testConfig("steady", steady, b.Dial)
		listening(&cfg)
		cfg.Status.Heartbeat = 10 * time.Second
		a := mustStart(t, cfg)
		cfg = testConfig("flapping", flapping, through(p))
		listening(&cfg)
		cfg.Status.Heartbeat = 10 * time.Second
		connect(t, a)
		time.Sleep(time.Second)
		c := mustStart(t, cfg)
		for range 10 {
			connect(t, c)
			time.Sleep(30 * time.Second)
			p.Refuse(true)
			p.Cut()
			time.Sleep(30 * time.Second) // its will says offline: a corrects
			said(t, b, a, "online heartbeat")
			p.Refuse(false)
		}
		// Ten minutes: 60 heartbeats of one and 30 of the other, ten births, wills
		// and corrections, unless a heartbeat is earlier.
		if n := len(words.messages()); n > 150 {
			t.Errorf("%d words were said in ten minutes", n)
		}
		if n := a.Stats().Status; n.Corrections < 1 || n.Corrections > 10 || n.Contested < 10 {
			t.Errorf("the one that stayed counted %+v", n)
		}
		if n := c.Stats().Status.Corrections; n != 0 {
			t.Errorf("the one that came and went corrected %d times", n)
		}
		if n := eventsOf[StatusContested](steady); len(n) < 5 || len(n) > 11 || n[0].Boot != c.BootID() || n[0].String() == "" {
			t.Errorf("it told of %v", n)
		}
		if n := eventsOf[StatusContested](flapping); len(n) < 5 || len(n) > 11 || n[0].Boot != a.BootID() {
			t.Errorf("the other told of %v", n)
		}
	})
}

// TestOfflineIsTheLastWord although someone says offline at each moment of the end.
func TestOfflineIsTheLastWord(t *testing.T) {
	for after := range 60 {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			p.Delay(time.Millisecond, 3*time.Millisecond)
			p.Seed(uint64(after))
			cfg := testConfig("c", &recorder{}, through(p))
			listening(&cfg)
			cfg.Status.Heartbeat = time.Second
			c := mustStart(t, cfg)
			connect(t, c)
			say := stranger(t, b)
			random := rand.New(rand.NewPCG(1, uint64(after)))
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
			say(offlineOf(otherBoot))
			time.Sleep(correctionGrace - 5*time.Millisecond + time.Duration(after)*time.Millisecond/6)
			must(t, c.Close())
			say(offlineOf(otherBoot))
			time.Sleep(time.Minute)
			if s := says(t, b); s.State != presence.Offline {
				t.Errorf("closed after %d, the status stays %+v", after, s)
			}
		})
	}
}

// TestTheOwnSubscriptionIsNotTheProgramsBusiness: handlers see nothing of it.
func TestTheOwnSubscriptionIsNotTheProgramsBusiness(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		events := &recorder{}
		cfg := testConfig("c", events, through(p))
		listening(&cfg)
		all := newInbox()
		c := mustNew(t, cfg)
		must(t, c.Handle("#", all))
		must(t, c.Subscribe(t.Context(), "commands/#", AtLeastOnce, newInbox()))
		start(t, c)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Second)
		say("offline")
		time.Sleep(time.Second)
		p.Cut()
		connect(t, c)
		time.Sleep(time.Minute)
		if got := all.payloads(); len(got) != 0 || len(eventsOf[Unhandled](events)) != 0 {
			t.Errorf("a handler got %q; %d unhandled", got, len(eventsOf[Unhandled](events)))
		}

		// One of the program's that covers the topic gets all of it, once.
		own := newInbox()
		must(t, c.Subscribe(t.Context(), "status/+", AtLeastOnce, own, NoRetained()))
		time.Sleep(time.Second) // it takes the place of ours
		say("offline")
		time.Sleep(time.Second)
		if got := own.messages(); len(got) != 2 || string(got[0].Payload) != "offline" || parse(t, got[1].Payload).Reason != "correction" {
			t.Errorf("the program got %q, want each word once", own.payloads())
		}
		must(t, c.Unsubscribe(t.Context(), "status/+"))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction") // and ours is back

		// So does one for just this topic.
		own = newInbox()
		must(t, c.Subscribe(t.Context(), "status/c", AtLeastOnce, own, NoRetained()))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		if got := own.payloads(); len(got) != 2 {
			t.Errorf("the program got %q, want each word once", got)
		}
		must(t, c.Unsubscribe(t.Context(), "status/c"))
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
		if n := c.Stats().Status.Corrections; n != 5 {
			t.Errorf("%d corrections, want 5", n)
		}
	})
}

// TestASubscriptionGivenUpWhileAwayIsNotTheEndOfOurs.
func TestASubscriptionGivenUpWhileAwayIsNotTheEndOfOurs(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, through(p))
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		must(t, c.Subscribe(t.Context(), "status/c", AtLeastOnce, newInbox()))
		synctest.Wait()
		p.Refuse(true)
		p.Cut()
		synctest.Wait()
		must(t, c.Unsubscribe(t.Context(), "status/c"))
		p.Refuse(false)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
	})
}

// TestAnACLThatForbidsListening is told once, and all else goes on.
func TestAnACLThatForbidsListening(t *testing.T) {
	forbid := func(_, topic string, write bool) byte {
		if topic == "status/c" && !write {
			return wire.ReasonNotAuthorized
		}
		return 0
	}
	inBubble(t, mqtttest.Options{Authorize: forbid}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		events := &recorder{}
		cfg := testConfig("c", events, through(p))
		listening(&cfg)
		c := mustStart(t, cfg)
		for range 5 {
			connect(t, c)
			time.Sleep(time.Minute)
			said(t, b, c, "online birth")
			p.Cut()
			time.Sleep(time.Second)
		}
		failed := eventsOf[StatusFailed](events)
		var own *OwnStatusError
		var refused *RefusedError
		if len(failed) != 1 || !errors.As(failed[0].Err, &own) || !errors.As(failed[0].Err, &refused) || refused.Code != wire.ReasonNotAuthorized {
			t.Errorf("told %v, want one refusal", failed)
		}
		wantState(t, publish(t, c, "t", "x", AtLeastOnce), Acked)
	})
}

// TestWhatTheServerIsAskedFor: a subscription at QoS 1, without No Local, once in
// the life of a session, and behind those of the program.
func TestWhatTheServerIsAskedFor(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		listening(&cfg)
		c := mustNew(t, cfg)
		must(t, c.Subscribe(t.Context(), "commands", AtLeastOnce, newInbox()))
		start(t, c)
		for life, present := range []bool{false, true, false} {
			p := s.accept(control.Connack{SessionPresent: present})
			m, _ := p.nextWord("birth")
			p.accepts(m)
			var filters []string
			if !present {
				filters = append(filters, p.grantSubscribe().Subscriptions[0].Filter)
				own := p.grantSubscribe().Subscriptions[0]
				filters = append(filters, own.Filter)
				if own.QoS != 1 || own.NoLocal {
					t.Errorf("it asks for %+v", own)
				}
			}
			p.quiet()
			if want := []string{"commands", "status/c"}; !present && !slices.Equal(filters, want) {
				t.Errorf("connection %d asks for %q, want %q", life, filters, want)
			}
			p.close()
		}
	})
}

// TestABirthThatIsHeardEndsTheAlarm: an offline comes while the birth is on its way,
// and the birth behind it.
func TestABirthThatIsHeardEndsTheAlarm(t *testing.T) {
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		p.grantSubscribe()
		time.Sleep(time.Second)
		p.publish(wire.Publish{Topic: "status/c", Payload: []byte(offlineOf(otherBoot))})
		time.Sleep(20 * time.Second)
		p.quiet() // the birth has no answer yet
		p.publish(wire.Publish{Topic: "status/c", Payload: m.Payload})
		p.accepts(m)
		time.Sleep(time.Hour)
		p.quiet()

		p.publish(wire.Publish{Topic: "status/c", Payload: []byte(offlineOf(otherBoot))})
		m, _ = p.nextWord("correction")
		p.publish(wire.Publish{Topic: "status/c", Payload: []byte(offlineOf(otherBoot))})
		time.Sleep(10 * time.Second)
		p.quiet() // the correction has none
		p.publish(wire.Publish{Topic: "status/c", Payload: m.Payload})
		p.accepts(m)
		time.Sleep(time.Hour)
		p.quiet()
	})
}

// TestOneSubscriptionIsEnough: ours ends when the program has one, and one that is
// refused is not asked for again on the same connection.
func TestOneSubscriptionIsEnough(t *testing.T) {
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		p.accepts(m)
		p.grantSubscribe()
		done := make(chan error, 1)
		go func() { done <- c.Subscribe(t.Context(), "status/#", AtLeastOnce, newInbox()) }()
		p.grantSubscribe()
		must(t, <-done)
		u, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
		if err != nil || len(u.Filters) != 1 || u.Filters[0] != "status/c" {
			t.Errorf("UNSUBSCRIBE %+v, %v", u, err)
		}
		p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: u.PacketID, Reasons: []byte{0}}))
		p.quiet()
	})
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *Client, p *peer, events *recorder) {
		m, _ := p.nextWord("birth")
		sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		must(t, err)
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{wire.ReasonNotAuthorized}}))
		p.accepts(m)
		p.publish(wire.Publish{Topic: "status/c", Payload: m.Payload})
		time.Sleep(time.Hour)
		p.quiet()
		if n := len(eventsOf[StatusFailed](events)); n != 1 {
			t.Errorf("%d StatusFailed events, want 1", n)
		}
	})
}

// TestAFetchOfTheOwnTopicIsNotTheEndOfOurs: it has the same filter, of which the
// server has but one.
func TestAFetchOfTheOwnTopicIsNotTheEndOfOurs(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, _ *mqtttest.Proxy) {
		cfg := testConfig("c", &recorder{}, b.Dial)
		listening(&cfg)
		c := mustStart(t, cfg)
		connect(t, c)
		say := stranger(t, b)
		time.Sleep(time.Second)
		got, err := c.FetchRetained(t.Context(), "status/c", RetainedOptions{})
		if err != nil || len(got.Messages) != 1 || parse(t, got.Messages[0].Payload).Boot != c.BootID() {
			t.Errorf("fetched %+v, %v", got, err)
		}
		time.Sleep(time.Second)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
		w, err := c.WatchStatus(t.Context(), "status/c", WatchOptions{})
		must(t, err)
		for range 3 { // the watch's subscription serves, and is left alone
			time.Sleep(2 * time.Minute)
			began := time.Now()
			say("offline")
			time.Sleep(time.Second)
			said(t, b, c, "online correction")
			if d, ok := w.Get("status/c"); !ok || d.State != presence.Online || d.Since.Before(began) {
				t.Errorf("it sees itself as %+v", d)
			}
		}
		w.Close()
		time.Sleep(time.Minute)
		say("offline")
		time.Sleep(time.Second)
		said(t, b, c, "online correction")
	})
}
