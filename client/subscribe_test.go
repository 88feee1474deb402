package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// filtersOf is the filters of a SUBSCRIBE, in order.
func filtersOf(sub control.Subscribe) (list []string) {
	for _, s := range sub.Subscriptions {
		list = append(list, s.Filter)
	}
	return list
}

func TestSubscribe_OptionsOnTheWire(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		done := make(chan error, 1)
		go func() {
			done <- errOf(c.Subscribe(t.Context(), "a/+", client.ExactlyOnce, newInbox(), client.NoLocal(), client.RetainAsPublished(), client.RetainHandling(client.SendRetainedNever)))
		}()
		sub := p.grantSubscribe()
		must(t, <-done)
		if want := (control.Subscription{Filter: "a/+", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}); sub.Subscriptions[0] != want {
			t.Errorf("SUBSCRIBE says %+v, want %+v", sub.Subscriptions[0], want)
		}
		if sub.PacketID == 0 || sub.PacketID > 1024 {
			t.Errorf("its packet identifier is %d, and those above 1024 belong to messages", sub.PacketID)
		}
	})
}

func TestSubscribe_RejectsInvalidRequests(t *testing.T) {
	publishing(t, nil, control.Connack{WildcardUnavailable: true, SharedUnavailable: true, MaximumPacketSize: 40},
		func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
			var field *client.FieldError
			for _, err := range []error{
				errOf(c.Subscribe(t.Context(), "a/#/b", 0, newInbox())),
				errOf(c.Subscribe(t.Context(), "a", 3, newInbox())),
				errOf(c.Subscribe(t.Context(), "$share/g/a", 0, newInbox(), client.NoLocal())),
			} {
				if !errors.As(err, &field) {
					t.Errorf("got %v, want a *FieldError", err)
				}
			}
			if _, err := c.Subscribe(t.Context(), "a", 0, nil); err == nil {
				t.Error("a nil handler was taken")
			}
			var refused *client.RefusedError
			for code, filter := range map[byte]string{
				wire.ReasonWildcardSubsNotSupported: "a/+", wire.ReasonSharedSubsNotSupported: "$share/g/a", wire.ReasonPacketTooLarge: strings.Repeat("x", 40),
			} {
				if _, err := c.Subscribe(t.Context(), filter, 0, newInbox()); !errors.As(err, &refused) || refused.Code != code {
					t.Errorf("%s: %v, want 0x%02X", filter, err, code)
				}
			}
			p.quiet()
		})
}

// A Subscribe that cannot be changes nothing: the handler that there is stays.
func TestSubscribe_InvalidRequestChangesNothing(t *testing.T) {
	publishing(t, nil, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		have, other := newInbox(), newInbox()
		must(t, c.Handle("a", have))
		must(t, c.Handle("$share/g/a", have))
		for filter, option := range map[string]client.SubscribeOption{"a": client.SubscriptionID(0), "$share/g/a": client.NoLocal()} {
			var field *client.FieldError
			if _, err := c.Subscribe(t.Context(), filter, 0, other, client.RetainAsPublished(), option); !errors.As(err, &field) {
				t.Errorf("got %v, want a *FieldError", err)
			}
		}
		p.send(wire.AppendPublish(nil, &wire.Publish{Topic: "a", Retain: true}))
		synctest.Wait()
		if n, m := len(have.messages()), len(other.messages()); n != 2 || m != 0 {
			t.Errorf("the handlers were called %d and %d times", n, m)
		}
		if client.AsksRetainAsPublished(c, "a") || client.AsksRetainAsPublished(c, "$share/g/a") {
			t.Error("Retain As Published is treated as requested")
		}
		p.quiet()
	})
}

func TestSubscribe_RefusalIsNotRetried(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{})
		connect(t, c)
		done := make(chan error, 1)
		go func() { done <- errOf(c.Subscribe(t.Context(), "secret", 1, newInbox())) }()
		sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		must(t, err)
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: []byte{wire.ReasonNotAuthorized}}))
		var refused *client.RefusedError
		if err := <-done; !errors.As(err, &refused) || refused.Code != wire.ReasonNotAuthorized {
			t.Errorf("Subscribe returned %v, want 0x87", err)
		}
		p.close()
		s.accept(control.Connack{}).quiet()
	})
}

func TestSubscribe_IsRestored(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustNew(t, testConfig("c", &events, s.dial))
		for i := range 70 {
			must1(c.Subscribe(t.Context(), fmt.Sprint("f", i), 1, newInbox()))
		}
		start(t, c)
		for life, ack := range []control.Connack{{}, {SessionPresent: true}, {SessionPresent: false}} {
			p := s.accept(ack)
			if ack.SessionPresent {
				p.quiet() // the session has them
				p.close()
				continue
			}
			var got []string
			for range 70 { // each has an identifier of its own
				got = append(got, filtersOf(p.grantSubscribe())...)
			}
			for i, f := range got {
				if f != fmt.Sprint("f", i) {
					t.Fatalf("life %d: filter %d is %s", life, i, f)
				}
			}
			if len(got) != 70 {
				t.Errorf("life %d: %d filters were restored", life, len(got))
			}
			p.quiet()
			p.close()
		}
	})
}

// TestSubscribe_InResumedSessionOfEarlierProcess, and what is retained as it was asked for.
func TestSubscribe_InResumedSessionOfEarlierProcess(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = usedStore(t)
		c := mustNew(t, cfg)
		must1(c.Subscribe(t.Context(), "a", 1, newInbox()))
		must1(c.Subscribe(t.Context(), "b", 1, newInbox(), client.RetainHandling(client.SendRetainedNever)))
		start(t, c)
		p := s.accept(control.Connack{SessionPresent: true})
		both := func(what string) {
			t.Helper()
			if a, b := p.grantSubscribe().Subscriptions[0].RetainHandling, p.grantSubscribe().Subscriptions[0].RetainHandling; a != 0 || b != 2 {
				t.Errorf("in %s the Retain Handling is %d and %d, want 0 and 2", what, a, b)
			}
		}
		both("a session of an earlier process")
		p.close()
		p = s.accept(control.Connack{}) // a new session: everything anew
		both("a new session")
	})
}

func TestSubscribe_ReportsFailedRestore(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustNew(t, testConfig("c", &events, s.dial))
		for _, f := range []string{"a", "b/+", strings.Repeat("c", 30), "d", "e", strings.Repeat("f", 100), "g"} {
			must1(c.Subscribe(t.Context(), f, 1, newInbox()))
		}
		start(t, c)
		p := s.accept(control.Connack{WildcardUnavailable: true, MaximumPacketSize: 50})
		var asked []string
		for len(asked) < 5 {
			f := p.next(wire.SUBSCRIBE)
			if len(f.Raw) > 50 {
				t.Fatalf("SUBSCRIBE of %d bytes came, the server takes 50", len(f.Raw))
			}
			sub, err := control.ParseSubscribe(f)
			must(t, err)
			ack := control.Suback{PacketID: sub.PacketID}
			for _, one := range sub.Subscriptions {
				asked = append(asked, one.Filter)
				code := one.QoS
				if one.Filter == "d" {
					code = wire.ReasonNotAuthorized
				}
				ack.Reasons = append(ack.Reasons, code)
			}
			p.send(control.AppendSuback(nil, &ack))
		}
		p.quiet()
		if got := strings.Join(asked, " "); got != "a "+strings.Repeat("c", 30)+" d e g" {
			t.Errorf("the filters asked for were %s", got)
		}
		var failed []string
		for _, e := range eventsOf[client.SubscriptionFailed](&events) {
			failed = append(failed, e.Filter[:1])
		}
		slices.Sort(failed)
		if got := fmt.Sprint(failed); got != "[b d f]" {
			t.Errorf("%v were reported as failed, want b, d and f", got)
		}
	})
}

// TestSubscribe_MissingSubackEndsConnection: Subscribe must not say that all is well
// while the server may not have the subscription.
func TestSubscribe_MissingSubackEndsConnection(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.AckTimeout = 5 * time.Second
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{})
		connect(t, c)
		done := make(chan error, 1)
		go func() { done <- errOf(c.Subscribe(t.Context(), "a", 1, newInbox())) }()
		p.next(wire.SUBSCRIBE)
		p.ended()
		must(t, <-done) // the subscription is kept, and made on the next connection
		p = s.accept(control.Connack{SessionPresent: true})
		if got := filtersOf(p.grantSubscribe()); fmt.Sprint(got) != "[a]" {
			t.Errorf("%v was restored", got)
		}
		if got := eventsOf[client.Disconnected](&events); len(got) != 1 || !errors.Is(got[0].Err, client.ErrAckTimeout) {
			t.Errorf("Disconnected events are %v", got)
		}
	})
}

// TestSessionLost_IsReportedWithoutMessagesInFlight: the messages that the server held for the client are
// lost, and so are the subscriptions until they are restored.
func TestSessionLost_IsReportedWithoutMessagesInFlight(t *testing.T) {
	for name, want := range map[string]int{"kept": 1, "none asked for": 0} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				cfg := testConfig("c", &events, s.dial)
				if want == 0 {
					cfg.Session.Expiry = client.NoSession
				}
				c := mustStart(t, cfg)
				s.accept(control.Connack{}).close()
				s.accept(control.Connack{})
				synctest.Wait()
				if got := len(eventsOf[client.SessionLost](&events)); got != want || c.Stats().SessionsLost != uint64(want) {
					t.Errorf("%d SessionLost events, %d counted, want %d", got, c.Stats().SessionsLost, want)
				}
			})
		})
	}
}

func TestSubscribe_CanceledContextKeepsSubscription(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		p := s.accept(control.Connack{})
		connect(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Subscribe(ctx, "a", 1, newInbox()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Subscribe returned %v", err)
		}
		p.next(wire.SUBSCRIBE)
		p.quiet() // the connection is not to blame
		p.close()
		p = s.accept(control.Connack{SessionPresent: true})
		if got := filtersOf(p.grantSubscribe()); fmt.Sprint(got) != "[a]" {
			t.Errorf("%v was restored", got)
		}
	})
}

func TestUnsubscribe(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		start(t, c)
		in := newInbox()
		p := s.accept(control.Connack{})
		connect(t, c)
		for _, f := range []string{"a", "b"} {
			done := make(chan error, 1)
			go func() { done <- errOf(c.Subscribe(t.Context(), f, 1, in)) }()
			p.grantSubscribe()
			must(t, <-done)
		}
		answer := func(code byte) string {
			u, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
			must(t, err)
			p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: u.PacketID, Reasons: []byte{code}}))
			return strings.Join(u.Filters, " ")
		}
		done := make(chan error, 1)
		go func() { done <- c.Unsubscribe(t.Context(), "a") }()
		if got := answer(0); got != "a" {
			t.Errorf("UNSUBSCRIBE names %s", got)
		}
		must(t, <-done)
		p.publish(wire.Publish{Topic: "a", QoS: 1, PacketID: 1})
		if a := p.nextAck(wire.PUBACK); a.Reason != wire.ReasonImplementationSpecific {
			t.Errorf("its handler is still there: 0x%02X", a.Reason)
		}
		// Without a connection UNSUBSCRIBE is sent on the next one, before a new
		// SUBSCRIBE for the filter.
		p.close()
		synctest.Wait()
		must(t, c.Unsubscribe(t.Context(), "b"))
		p = s.accept(control.Connack{SessionPresent: true})
		if got := answer(0); got != "b" {
			t.Errorf("UNSUBSCRIBE names %s", got)
		}
		p.quiet()
		// A refusal is an error.
		go func() { done <- c.Unsubscribe(t.Context(), "c") }()
		answer(wire.ReasonNotAuthorized)
		var refused *client.RefusedError
		if err := <-done; !errors.As(err, &refused) || refused.Code != wire.ReasonNotAuthorized {
			t.Errorf("Unsubscribe returned %v, want 0x87", err)
		}
		// A session that is lost takes the debt with it.
		p.close()
		synctest.Wait()
		must(t, c.Unsubscribe(t.Context(), "d"))
		p = s.accept(control.Connack{})
		p.quiet()
		p.close()
		s.accept(control.Connack{SessionPresent: true}).quiet()
	})
}

// TestSubscribe_OncePerConnection: retained messages would come
// twice otherwise. Subscribe is quicker here than restoring.
func TestSubscribe_OncePerConnection(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		restore := make(chan struct{})
		cfg := testConfig("c", &recorder{}, s.dial)
		defaultLog(t).also = func(r slog.Record) {
			if r.Message == "connected" {
				<-restore
			}
		}
		c := mustNew(t, cfg)
		must1(c.Subscribe(t.Context(), "early", 1, newInbox()))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		done := make(chan error, 1)
		go func() { done <- errOf(c.Subscribe(t.Context(), "now", 1, newInbox())) }()
		synctest.Wait()
		close(restore)
		synctest.Wait()
		for _, want := range []string{"[now]", "[early]"} {
			if got := fmt.Sprint(filtersOf(p.grantSubscribe())); got != want {
				t.Errorf("SUBSCRIBE names %v, want %s", got, want)
			}
		}
		must(t, <-done)
		p.quiet()
	})
}

// TestSubscribe_WhileConnecting has Subscribe race with restoring: in the end
// the server knows every filter, and the race detector has nothing to say.
func TestSubscribe_WhileConnecting(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		has := map[string]bool{}
		for life := range 20 {
			p := s.accept(control.Connack{SessionPresent: life > 0})
			var all sync.WaitGroup
			for i := range 5 {
				all.Go(func() { must1(c.Subscribe(t.Context(), fmt.Sprint(life, "/", i), 1, newInbox())) })
			}
			stop := make(chan struct{})
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					select {
					case f := <-p.got:
						sub, err := control.ParseSubscribe(f)
						if err != nil {
							t.Error(err)
							return
						}
						for _, one := range sub.Subscriptions {
							has[one.Filter] = true
						}
						p.send(control.AppendSuback(nil, &control.Suback{PacketID: sub.PacketID, Reasons: make([]byte, len(sub.Subscriptions))}))
					case <-stop:
						return
					}
				}
			}()
			all.Wait()
			synctest.Wait()
			close(stop)
			<-served
			p.close()
		}
		if len(has) != 100 {
			t.Errorf("the server knows %d filters, want 100", len(has))
		}
	})
}
