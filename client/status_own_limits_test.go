package client_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestStatus_NoCorrection(t *testing.T) {
	publishing(t, structured(), control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		m, _ := p.nextWord("birth")
		p.accepts(m)
		p.publish(wire.Publish{Topic: "status/c", Payload: []byte("offline")})
		time.Sleep(time.Hour)
		p.quiet()
	})
}

// TestStatus_LimitsCorrections: another client answers each online with offline, indefinitely.
func TestStatus_LimitsCorrections(t *testing.T) {
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

// TestStatus_TwoProcessesDoNotAnswerEachOther: two processes share a status topic by mistake. Both report
// it and are online in turn, and neither answers the other.
func TestStatus_TwoProcessesDoNotAnswerEachOther(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		words := newInbox()
		watcher := mustStart(t, testConfig("w", &recorder{}, b.Dial))
		connect(t, watcher)
		must1(watcher.Subscribe(t.Context(), "status/+", client.AtLeastOnce, words))
		steady, flapping := &recorder{}, &recorder{}
		cfg := testConfig("steady", steady, b.Dial)
		listening(&cfg)
		cfg.Presence.Status.Heartbeat = 10 * time.Second
		a := mustStart(t, cfg)
		cfg = testConfig("flapping", flapping, through(p))
		listening(&cfg)
		cfg.Presence.Status.Heartbeat = 10 * time.Second
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
		if n := eventsOf[client.StatusContested](steady); len(n) < 5 || len(n) > 11 || n[0].Boot != c.BootID() || n[0].String() == "" {
			t.Errorf("it reported %v", n)
		}
		if n := eventsOf[client.StatusContested](flapping); len(n) < 5 || len(n) > 11 || n[0].Boot != a.BootID() {
			t.Errorf("the other reported %v", n)
		}
	})
}

// TestStatus_OfflineIsFinalDespiteOthers although someone says offline at each moment of the end.
func TestStatus_OfflineIsFinalDespiteOthers(t *testing.T) {
	for after := range 60 {
		inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			p.Delay(time.Millisecond, 3*time.Millisecond)
			p.Seed(uint64(after))
			cfg := testConfig("c", &recorder{}, through(p))
			listening(&cfg)
			cfg.Presence.Status.Heartbeat = time.Second
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

// TestStatus_ReceivedBirthEndsCorrection: an offline comes while the birth is on its way,
// and the birth after it.
func TestStatus_ReceivedBirthEndsCorrection(t *testing.T) {
	publishing(t, listening, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
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
