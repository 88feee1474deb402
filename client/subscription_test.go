package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// answerSubscribe answers the next packet, a SUBSCRIBE, with these reason codes.
func (p *peer) answerSubscribe(reasons ...byte) control.Subscribe {
	p.t.Helper()
	sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
	must(p.t, err)
	p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: reasons}))
	return sub
}

func describe(list []client.Subscription) (lines []string) {
	for _, s := range list {
		line := fmt.Sprint(s.Filter, " q", s.QoS, " ", s.State, " q", s.Granted)
		var refused *client.RefusedError
		if errors.As(s.Err, &refused) {
			line += fmt.Sprintf(" 0x%02X", refused.Code)
		}
		lines = append(lines, line)
	}
	return lines
}

func wantSubscriptions(t *testing.T, got []client.Subscription, want ...string) {
	t.Helper()
	if lines := describe(got); strings.Join(lines, "; ") != strings.Join(want, "; ") {
		t.Errorf("the subscriptions are\n%q, want\n%q", lines, want)
	}
}

// Some of several filters are refused, and some granted with a lower QoS: each has its result, and
// the refused ones are not kept.
func TestSubscribeAll_ReturnsAResultForEach(t *testing.T) {
	for name, ack := range map[string]control.Connack{"with identifiers": {}, "without": {SubIDUnavailable: true}} {
		t.Run(name, func(t *testing.T) {
			publishing(t, nil, ack, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
				var list []client.SubscribeRequest
				for i, filter := range []string{"a", "b", "c", "d"} {
					list = append(list, client.SubscribeRequest{Filter: filter, QoS: client.QoS(min(i, 2)), Handler: newInbox()})
				}
				type answer struct {
					list []client.Subscription
					err  error
				}
				done := make(chan answer, 1)
				go func() {
					got, err := c.SubscribeAll(t.Context(), list)
					done <- answer{got, err}
				}()
				reasons := []byte{0, wire.ReasonNotAuthorized, 1, wire.ReasonQuotaExceeded}
				if ack.SubIDUnavailable {
					p.answerSubscribe(reasons...)
				} else {
					for _, code := range reasons {
						p.answerSubscribe(code)
					}
				}
				got := <-done
				want := []string{"a q0 active q0", "b q1 refused q0 0x87", "c q2 active q1", "d q2 refused q0 0x97"}
				wantSubscriptions(t, got.list, want...)
				wantSubscriptions(t, c.Subscriptions(), want[0], want[2])
				var failed *client.SubscribeError
				var refused *client.RefusedError
				if !errors.As(got.err, &failed) || failed.All != 4 || len(failed.Failed) != 2 || failed.Failed[1].Filter != "d" {
					t.Errorf("the error is %v, want a *SubscribeError with b and d", got.err)
				}
				if !errors.As(got.err, &refused) || refused.Code != wire.ReasonNotAuthorized || !strings.Contains(got.err.Error(), "2 of 4") {
					t.Errorf("the error is %v", got.err)
				}
			})
		})
	}
}

// If one request is invalid, nothing is declared.
func TestSubscribeAll_ChangesNothingIfInvalid(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for _, bad := range []client.SubscribeRequest{
			{Filter: "a/#/b", Handler: newInbox()}, {Filter: "b", QoS: 3, Handler: newInbox()}, {Filter: "b"},
			{Filter: "b", Handler: newInbox(), Options: []client.SubscribeOption{client.RetainHandling(3)}},
			{Filter: "b", Handler: newInbox(), Options: []client.SubscribeOption{client.SubscriptionID(1 << 27)}},
			{Filter: "b", Handler: newInbox(), Options: []client.SubscribeOption{client.SubscribeProperties(client.UserProperty{Key: "\x00"})}},
		} {
			if _, err := c.SubscribeAll(t.Context(), []client.SubscribeRequest{{Filter: "a", Handler: newInbox()}, bad}); err == nil {
				t.Errorf("%+v was taken", bad)
			}
		}
		if list := c.Subscriptions(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		p.quiet()
	})
}

// Subscribe returns what is known, with and without a connection, and Subscriptions what became of
// it.
func TestSubscription_States(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		sub := must1(c.Subscribe(t.Context(), "a", client.ExactlyOnce, newInbox()))
		wantSubscriptions(t, []client.Subscription{sub}, "a q2 pending q0")
		must1(c.Subscribe(t.Context(), "b", client.AtLeastOnce, newInbox()))
		start(t, c)
		p := s.accept(control.Connack{})
		p.answerSubscribe(1)
		p.answerSubscribe(wire.ReasonNotAuthorized)
		synctest.Wait()
		wantSubscriptions(t, c.Subscriptions(), "a q2 active q1", "b q1 refused q0 0x87")
		done := make(chan client.Subscription, 1)
		go func() { done <- must1(c.Subscribe(t.Context(), "c", client.AtLeastOnce, newInbox())) }()
		p.answerSubscribe(0)
		wantSubscriptions(t, []client.Subscription{<-done}, "c q1 active q0")
		p.close()
		p = s.accept(control.Connack{}) // the session is lost
		synctest.Wait()
		wantSubscriptions(t, c.Subscriptions(), "a q2 pending q0", "b q1 pending q0 0x87", "c q1 pending q0")
		p.answerSubscribe(2)
		p.answerSubscribe(1)
		p.answerSubscribe(1)
		synctest.Wait()
		wantSubscriptions(t, c.Subscriptions(), "a q2 active q2", "b q1 active q1", "c q1 active q1")
	})
}

// An answer that is invalid is an error, and the subscription is asked for again.
func TestSubscribe_InvalidAnswer(t *testing.T) {
	for name, answer := range map[string]control.Suback{
		"two reason codes":         {PacketID: 1, Reasons: []byte{0, 0}},
		"a higher QoS":             {PacketID: 1, Reasons: []byte{2}},
		"an undefined reason code": {PacketID: 1, Reasons: []byte{0x42}},
		"an identifier of nobody":  {PacketID: 9, Reasons: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				c := mustStart(t, testConfig("c", &recorder{}, s.dial))
				p := s.accept(control.Connack{})
				connect(t, c)
				type result struct {
					s   client.Subscription
					err error
				}
				done := make(chan result, 1)
				go func() {
					got, err := c.Subscribe(t.Context(), "a", client.AtLeastOnce, newInbox())
					done <- result{got, err}
				}()
				p.next(wire.SUBSCRIBE)
				p.send(control.AppendSuback(nil, &answer))
				var bad *client.ProtocolError
				if got := <-done; !errors.As(got.err, &bad) || bad.Packet != "SUBACK" || got.s.State != client.SubscriptionPending || !errors.As(got.s.Err, &bad) {
					t.Errorf("got %+v, %v; want pending, with a *ProtocolError", got.s, got.err)
				}
				s.accept(control.Connack{SessionPresent: true}).answerSubscribe(1)
				synctest.Wait()
				wantSubscriptions(t, c.Subscriptions(), "a q1 active q1")
			})
		})
	}
}

// User properties are sent each time, and filters with different ones in different packets.
func TestSubscribe_UserProperties(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{SubIDUnavailable: true})
		connect(t, c)
		user := client.UserProperty{Key: "k", Value: "v"}
		done := make(chan error, 1)
		go func() {
			_, err := c.SubscribeAll(t.Context(), []client.SubscribeRequest{
				{Filter: "a", Handler: newInbox(), Options: []client.SubscribeOption{client.SubscribeProperties(user)}}, {Filter: "b", Handler: newInbox()},
			})
			done <- err
		}()
		want := func() {
			t.Helper()
			for _, user := range []string{"[{k v}]", "[]"} {
				if sub := p.grantSubscribe(); fmt.Sprint(sub.User) != user || len(sub.Subscriptions) != 1 {
					t.Errorf("SUBSCRIBE %+v, want the user properties %s", sub, user)
				}
			}
		}
		want()
		must(t, <-done)
		p.close()
		p = s.accept(control.Connack{SubIDUnavailable: true})
		want()
		go func() { done <- c.Unsubscribe(t.Context(), "a", user) }()
		u, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
		must(t, err)
		if fmt.Sprint(u.User) != "[{k v}]" {
			t.Errorf("UNSUBSCRIBE %+v", u)
		}
		p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: u.PacketID, Reasons: []byte{0}}))
		must(t, <-done)
	})
}

// On a server without Subscription Identifiers overlapping filters are logged, once.
func TestOverlappingFilters_AreLoggedWithoutIdentifiers(t *testing.T) {
	for _, without := range []bool{false, true} {
		inBubble(t, mqtttest.Options{DisableSubID: without}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			var log bytes.Buffer
			cfg := testConfig("c", &recorder{}, through(p))
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c := mustNew(t, cfg)
			for _, f := range []string{"a/1", "b/#", "$share/g/b/1"} {
				must1(c.Subscribe(t.Context(), f, client.AtLeastOnce, newInbox()))
			}
			start(t, c)
			connect(t, c)
			must1(c.Subscribe(t.Context(), "c", client.AtLeastOnce, newInbox()))
			synctest.Wait()
			count := func() int { return strings.Count(log.String(), "no Subscription Identifiers") }
			if count() != 0 {
				t.Error("logged, and nothing overlaps: " + log.String())
			}
			must1(c.Subscribe(t.Context(), "b/1", client.AtLeastOnce, newInbox()))
			must1(c.Subscribe(t.Context(), "#", client.AtLeastOnce, newInbox()))
			p.Cut()
			connect(t, c)
			synctest.Wait()
			want := 0
			if without {
				want = 1
			}
			if n := count(); n != want || n > 0 && !strings.Contains(log.String(), "filter=b/1 overlaps=b/#") {
				t.Errorf("logged %d times, want %d: %s", n, want, log.String())
			}
		})
	}
}
