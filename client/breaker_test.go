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
	"github.com/mooring-mqtt/mooring/reliability"
)

// tripping runs a test with a breaker that has opened after two Quota exceeded answers for two
// topics.
func tripping(t *testing.T, test func(t *testing.T, s *script, c *client.Client, p *peer, events *recorder)) {
	t.Helper()
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Publishing.Refusals = finalRefusals
		cfg.Publishing.Breaker = reliability.BreakerOptions{FailureThreshold: 2, RecoveryTimeout: time.Minute, SuccessesToClose: 2}
		cfg.Connection.AckTimeout = time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		for _, topic := range []string{"t/1", "t/2"} { // each topic counts once
			d := publish(t, c, topic, "refused", client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonQuotaExceeded, "")
			wantState(t, d, client.Refused)
			// A written QoS 0 message does not count as a success.
			_, err := c.Publish(t.Context(), client.Message{Topic: "t"})
			if err == nil {
				p.nextPublish()
			}
		}
		if s := c.Stats().Breaker; s.Opened != 1 {
			t.Fatalf("the breaker did not open: %+v", s)
		}
		test(t, s, c, p, &events)
	})
}

func TestBreaker_KeepsStoredMessagesWhileOpen(t *testing.T) {
	tripping(t, func(t *testing.T, s *script, c *client.Client, p *peer, events *recorder) {
		began := time.Now()
		var all []*client.Delivery
		for i := range 10 {
			all = append(all, publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce))
		}
		p.quiet()
		var open *reliability.OpenError
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t"}); !errors.As(err, &open) || open.RetryAfter <= 0 || open.RetryAfter > time.Minute+1 {
			t.Errorf("QoS 0: %v, want an *OpenError with the time left", err)
		}
		for i := range 2 { // only the trials are sent
			m := p.nextPublish()
			if took := time.Since(began); took < time.Minute || took > time.Minute+time.Millisecond {
				t.Errorf("trial %d came after %v, want a minute", i, took)
			}
			if i == 0 {
				continue
			}
			p.quiet()
			p.ack(wire.PUBACK, m.PacketID-1, 0, "")
			p.quiet()
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		for range 8 {
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		for _, d := range all {
			wantState(t, d, client.Acked)
		}
		var changes []string
		for _, e := range eventsOf[client.BreakerChanged](events) {
			changes = append(changes, e.From+">"+e.To)
		}
		if got := fmt.Sprint(changes); got != "[closed>open open>half-open half-open>closed]" {
			t.Errorf("the changes were %v", got)
		}
	})
}

func TestBreaker_OpensAgainAfterFailedTrial(t *testing.T) {
	tripping(t, func(t *testing.T, s *script, c *client.Client, p *peer, _ *recorder) {
		began := time.Now()
		publish(t, c, "t", "trial", client.AtLeastOnce)
		p.ack(wire.PUBACK, p.nextPublish().PacketID, wire.ReasonQuotaExceeded, "")
		d := publish(t, c, "t", "next trial", client.AtLeastOnce)
		m := p.nextPublish()
		if took := time.Since(began).Round(time.Second); took != 2*time.Minute {
			t.Errorf("the next trial came after %v, want two minutes", took)
		}
		p.ack(wire.PUBACK, m.PacketID, 0, "")
		wantState(t, d, client.Acked)
	})
}

// Trials on a lost connection get no answer, so their slots are freed.
func TestBreaker_RepeatsTrialsAfterLostConnection(t *testing.T) {
	tripping(t, func(t *testing.T, s *script, c *client.Client, p *peer, _ *recorder) {
		var all []*client.Delivery
		for i := range 4 {
			all = append(all, publish(t, c, "t", fmt.Sprint(i), client.AtLeastOnce))
		}
		p.nextPublish()
		p.nextPublish()
		p.close()
		p = s.accept(control.Connack{SessionPresent: true})
		for range 4 {
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		for _, d := range all {
			wantState(t, d, client.Acked)
		}
	})
}

func TestBreaker_IgnoresRefusalsOfOneMessage(t *testing.T) {
	publishing(t, func(cfg *client.Config) {
		cfg.Publishing.Breaker.FailureThreshold, cfg.Publishing.Refusals = 2, finalRefusals
	}, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for _, code := range []byte{wire.ReasonNotAuthorized, wire.ReasonTopicNameInvalid, wire.ReasonPayloadFormatInvalid, wire.ReasonNotAuthorized} {
			d := publish(t, c, "t", "x", client.AtLeastOnce)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, code, "")
			wantState(t, d, client.Refused)
		}
		if n := c.Stats().Breaker.Opened; n != 0 {
			t.Errorf("the breaker opened %d times", n)
		}
	})
}

func TestBreaker_CreatesNoTimerPerPublish(t *testing.T) {
	tripping(t, func(t *testing.T, s *script, c *client.Client, p *peer, _ *recorder) {
		asked := c.Stats().Breaker.Rejected
		for range 1000 {
			publish(t, c, "t", "x", client.AtLeastOnce)
			synctest.Wait()
		}
		waited := c.Stats().Breaker.Rejected - asked
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := c.Stats().Breaker.Rejected - asked; n != waited {
			t.Errorf("the breaker was asked %d times while there was nothing to do", n-waited)
		}
		// The trials stay unanswered, so nothing else wakes the sender.
		time.Sleep(2 * time.Second)
		p.nextPublish()
		p.nextPublish()
		synctest.Wait()
		before := c.Stats().Breaker.Rejected
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := c.Stats().Breaker.Rejected - before; n > 2 {
			t.Errorf("the drainer woke %d times for nothing", n)
		}
	})
}

func TestAckTimeout_EndsSilentConnection(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.AckTimeout = 8 * time.Second
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		time.Sleep(time.Hour) // an idle connection is not a failure
		p.quiet()
		began := time.Now()
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		p.nextPublish()
		p.ended()
		if took := time.Since(began); took < 6*time.Second || took > 10*time.Second {
			t.Errorf("it was given up after %v, the timeout is 8s", took)
		}
		p = s.accept(control.Connack{SessionPresent: true})
		// A slow but continuous server is not a failure.
		for range 3 {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		for range 4 {
			time.Sleep(5 * time.Second)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		wantState(t, d, client.Acked)
		if got := eventsOf[client.Disconnected](&events); len(got) != 1 || !errors.Is(got[0].Err, client.ErrAckTimeout) {
			t.Errorf("Disconnected events are %v", got)
		}
	})
}
