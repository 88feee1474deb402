package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// retaining is a test bed with some retained messages: other sets them, c fetches.
type retaining struct {
	t        *testing.T
	b        *mqtttest.Broker
	p        *mqtttest.Proxy
	other, c *Client
	events   recorder
}

func inRetaining(t *testing.T, o mqtttest.Options, change func(*Config), test func(r *retaining)) {
	t.Helper()
	inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		r := &retaining{t: t, b: b, p: p}
		var others recorder
		r.other = mustStart(t, testConfig("other", &others, b.Dial))
		cfg := testConfig("c", &r.events, through(p))
		if change != nil {
			change(&cfg)
		}
		r.c = mustStart(t, cfg)
		connect(t, r.other)
		connect(t, r.c)
		test(r)
	})
}

func (r *retaining) set(topic, payload string) {
	r.t.Helper()
	if payload == "" {
		d, err := r.other.ClearRetained(r.t.Context(), topic)
		must(r.t, err)
		wantState(r.t, d, Acked)
		return
	}
	d, err := r.other.SetRetained(r.t.Context(), topic, []byte(payload))
	must(r.t, err)
	wantState(r.t, d, Acked)
}

func (r *retaining) fetch(filter string, want ...string) *Retained {
	r.t.Helper()
	found, err := r.c.FetchRetained(r.t.Context(), filter, RetainedOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if got := told(found.Messages); !slices.Equal(got, want) {
		r.t.Errorf("%s: got %q, want %q", filter, got, want)
	}
	return found
}

func told(list []*Message) (said []string) {
	for _, m := range list {
		said = append(said, m.Topic+"="+string(m.Payload))
	}
	slices.Sort(said)
	return said
}

func TestFetchRetained(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		r.set("a/1", "x")
		r.set("a/2", "y")
		r.set("b/1", "z")
		r.set("$x/1", "hidden")
		if f := r.fetch("a/+", "a/1=x", "a/2=y"); f.End != ByMarker {
			t.Errorf("ended %v", f.End)
		}
		if m := r.fetch("#", "a/1=x", "a/2=y", "b/1=z").Messages[0]; !m.Retain || len(m.SubscriptionIDs) != 0 {
			t.Errorf("%+v", m)
		}
		r.fetch("$x/#", "$x/1=hidden")
		r.fetch("nothing/#")
		r.set("a/1", "")
		r.fetch("a/+", "a/2=y")
		must(t, r.b.WaitFor(t.Context(), func() bool { return r.b.Stats().Subscriptions == 2 })) // the marker's
		if s := r.c.Stats(); s.Unhandled != 0 {
			t.Errorf("%d messages were refused", s.Unhandled)
		}
		if _, err := r.c.SetRetained(t.Context(), "a/1", nil); !errors.As(err, new(*FieldError)) {
			t.Errorf("an empty payload: %v", err)
		}
		for _, filter := range []string{"", "a/#/b", "$share/g/a"} {
			if _, err := r.c.FetchRetained(t.Context(), filter, RetainedOptions{}); !errors.As(err, new(*FieldError)) {
				t.Errorf("%q: %v", filter, err)
			}
		}
	})
}

func TestFetchTenThousand(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		const n = 10_000
		var last *Delivery
		for i := range n {
			last = must1(r.other.SetRetained(t.Context(), fmt.Sprintf("many/%d", i), []byte("x")))
		}
		wantState(t, last, Acked)
		found, err := r.c.FetchRetained(t.Context(), "many/#", RetainedOptions{})
		if err != nil || len(found.Messages) != n || found.End != ByMarker {
			t.Fatalf("%v, %d messages, %v", err, len(found.Messages), found.End)
		}
		var limit *RetainedLimitError
		if _, err := r.c.FetchRetained(t.Context(), "many/#", RetainedOptions{MaxMessages: n - 1}); !errors.As(err, &limit) || limit.Messages != n-1 {
			t.Errorf("%v", err)
		}
		if _, err := r.c.FetchRetained(t.Context(), "many/#", RetainedOptions{MaxBytes: 1000}); !errors.As(err, &limit) || limit.Bytes > 1000 {
			t.Errorf("%v", err)
		}
	})
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestFetchLeavesTheProgramsSubscriptionsAlone: whatever the server does with
// messages that several subscriptions match, and whatever the filters.
func TestFetchLeavesTheProgramsSubscriptionsAlone(t *testing.T) {
	for _, filter := range []string{"a/+", "a/#", "#"} {
		for _, options := range [][]SubscribeOption{nil, {SubscriptionID(7)}, {RetainAsPublished()}} {
			t.Run(fmt.Sprintf("%s, %d options", filter, len(options)), func(t *testing.T) {
				inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
					t := r.t
					r.set("a/1", "x")
					in := newInbox()
					must(t, r.c.Subscribe(t.Context(), filter, ExactlyOnce, in, options...))
					synctest.Wait()
					if got := in.payloads(); !slices.Equal(got, []string{"x"}) {
						t.Fatalf("its own retained message: %q", got)
					}
					view, err := r.c.MirrorRetained(t.Context(), "a/+", RetainedOptions{})
					must(t, err)
					must1(view.Synced(t.Context()))
					for i := range 3 {
						r.set("a/2", fmt.Sprint(i))
						r.fetch("a/+", "a/1=x", "a/2="+fmt.Sprint(i))
					}
					synctest.Wait()
					got := slices.Compact(in.payloads())
					rap := len(options) > 0 && r.c.retainAsPublished.Load()
					if !rap && !slices.Equal(got, []string{"x", "0", "1", "2"}) {
						t.Errorf("the handler saw %q", got)
					}
					view.Close()
					synctest.Wait()
					n := len(in.payloads())
					if n != 4 && !rap {
						t.Errorf("the handler saw %q", in.payloads())
					}
					r.set("a/2", "last")
					last := in.await(t, n+1)[n]
					if len(options) > 0 && !rap && !slices.Equal(last.SubscriptionIDs, []uint32{7}) || last.Retain != rap {
						t.Errorf("%+v", last)
					}
					if last.QoS != AtLeastOnce {
						t.Errorf("the subscription has another QoS: %+v", last)
					}
				})
			})
		}
	}
}

// TestTapsOutliveWhatTheProgramDoesWithTheSameFilter: subscribing replaces our
// subscription at the server, and unsubscribing ends it.
func TestTapsOutliveWhatTheProgramDoesWithTheSameFilter(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		r.set("a/1", "x")
		view, err := r.c.MirrorRetained(t.Context(), "a/+", RetainedOptions{})
		must(t, err)
		must1(view.Synced(t.Context()))
		in := newInbox()
		must(t, r.c.Subscribe(t.Context(), "a/+", AtLeastOnce, in, SubscriptionID(5)))
		must1(view.Synced(t.Context()))
		r.set("a/1", "y")
		synctest.Wait()
		if got := in.payloads(); !slices.Equal(got, []string{"x", "y"}) {
			t.Errorf("the handler saw %q", got)
		}
		if ids := in.messages()[1].SubscriptionIDs; !slices.Equal(ids, []uint32{5}) {
			t.Errorf("identifiers %v", ids)
		}
		if m, _ := view.Get("a/1"); string(m.Payload) != "y" {
			t.Errorf("the view has %s", m.Payload)
		}
		must(t, r.c.Unsubscribe(t.Context(), "a/+"))
		must1(view.Synced(t.Context()))
		r.set("a/1", "z")
		synctest.Wait()
		if m, _ := view.Get("a/1"); string(m.Payload) != "z" || len(in.payloads()) != 2 {
			t.Errorf("the view has %s, the handler %q", m.Payload, in.payloads())
		}
	})
}

func TestFetchWithoutSubscriptionIdentifiers(t *testing.T) {
	inRetaining(t, mqtttest.Options{DisableSubID: true}, nil, func(r *retaining) {
		t := r.t
		in := newInbox()
		must(t, r.c.Subscribe(t.Context(), "a/#", AtLeastOnce, in))
		r.set("a/1", "x")
		r.set("b/1", "y")
		if f := r.fetch("#", "a/1=x", "b/1=y"); f.End != ByMarker {
			t.Error(f.End)
		}
		synctest.Wait()
		if got := in.payloads(); len(got) < 1 || got[0] != "x" {
			t.Errorf("the handler saw %q", got)
		}
		if s := r.c.Stats(); s.Unhandled != 0 {
			t.Errorf("%d messages were refused", s.Unhandled)
		}
	})
}

// TestTheEndIsGuessedWhereTheMarkerIsRefused: by each way to refuse it.
func TestTheEndIsGuessedWhereTheMarkerIsRefused(t *testing.T) {
	const marker = "mooring/marker/c"
	refuse := func(write bool) func(_, topic string, w bool) byte {
		return func(_, topic string, w bool) byte {
			if w == write && (topic == marker) {
				return 0x87
			}
			return 0
		}
	}
	lose := func(_, topic string, w bool) byte { return 0 }
	for name, c := range map[string]struct {
		o      mqtttest.Options
		change func(*Config)
		took   time.Duration
	}{
		"subscribing": {mqtttest.Options{Authorize: refuse(false)}, nil, time.Second},
		"publishing":  {mqtttest.Options{Authorize: refuse(true)}, nil, time.Second},
		"off":         {mqtttest.Options{Authorize: lose}, func(c *Config) { c.MarkerTopic = NoMarker }, time.Second},
		"QoS 0 only":  {mqtttest.Options{MaximumQoS: mqtttest.QoS0Only}, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inRetaining(t, c.o, c.change, func(r *retaining) {
				t := r.t
				if name != "QoS 0 only" {
					r.set("a/1", "x")
				}
				begin := time.Now()
				found, err := r.c.FetchRetained(t.Context(), "a/#", RetainedOptions{})
				if err != nil || found.End != BySilence || name != "QoS 0 only" && len(found.Messages) != 1 {
					t.Fatalf("%+v, %v", found, err)
				}
				if took := time.Since(begin); took < c.took || took > c.took+time.Second/2 {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// TestAMarkerThatNeverComes: the server takes it and delivers nothing, as one that
// looks at rights when it delivers.
func TestAMarkerThatNeverComes(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, s.dial))
		p := s.accept(control.Connack{})
		begin := time.Now()
		type result struct {
			found *Retained
			err   error
		}
		done := make(chan result)
		go func() {
			found, err := c.FetchRetained(t.Context(), "a/#", RetainedOptions{Silence: 2 * time.Second})
			done <- result{found, err}
		}()
		if got := p.grantSubscribe().Subscriptions[0].Filter; got != "mooring/marker/c" {
			t.Errorf("first %q", got)
		}
		if got := p.grantSubscribe().Subscriptions[0].Filter; got != "mooring/marker/c/#" {
			t.Errorf("then %q", got)
		}
		sub := p.grantSubscribe()
		if o := sub.Subscriptions[0]; o.Filter != "a/#" || o.QoS != 0 || o.RetainHandling != 0 || !isTapID(sub.SubscriptionID) {
			t.Errorf("%+v", sub)
		}
		marker := p.nextPublish()
		if marker.Topic != "mooring/marker/c" || marker.Retain || marker.QoS != 1 {
			t.Errorf("%+v", marker)
		}
		p.ack(wire.PUBACK, marker.PacketID, 0, "")
		retained := func(topic string) {
			p.publish(wire.Publish{Topic: topic, Payload: []byte("x"), Retain: true, SubscriptionIDs: []uint32{sub.SubscriptionID}})
		}
		retained("a/1")
		time.Sleep(19 * time.Second) // ten times as patient
		retained("a/2")
		r := <-done
		if r.err != nil || len(r.found.Messages) != 2 || r.found.End != BySilence {
			t.Errorf("%+v", r)
		}
		if took := time.Since(begin); took < 39*time.Second || took > 40*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAServerWithoutRetainedMessages(t *testing.T) {
	inRetaining(t, mqtttest.Options{DisableRetain: true}, nil, func(r *retaining) {
		t := r.t
		var refused *RefusedError
		if _, err := r.c.FetchRetained(t.Context(), "a/#", RetainedOptions{}); !errors.As(err, &refused) || refused.Code != 0x9A {
			t.Errorf("%v", err)
		}
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", RetainedOptions{}))
		if _, err := view.Synced(t.Context()); !errors.As(err, &refused) || refused.Code != 0x9A {
			t.Errorf("%v", err)
		}
	})
}

// TestFetchThroughLinksThatBreak: it begins anew, until its context ends.
func TestFetchThroughLinksThatBreak(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 200 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		r.p.Refuse(true)
		r.p.Cut()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := r.c.FetchRetained(ctx, "a/#", RetainedOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("offline: %v", err)
		}
		cancel()
		r.p.Refuse(false)
		r.p.CutAfter(mqtttest.ToClient, 1500) // in the middle
		found, err := r.c.FetchRetained(t.Context(), "a/#", RetainedOptions{})
		if err != nil || len(found.Messages) != 200 {
			t.Fatalf("%v, %d messages", err, len(found.Messages))
		}
		if n := r.c.Stats().Connections; n < 3 {
			t.Errorf("%d connections: nothing broke", n)
		}
		go func() { _ = r.c.Close() }()
		if _, err := r.c.FetchRetained(t.Context(), "a/#", RetainedOptions{}); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		<-r.c.Done()
		if _, err := r.c.FetchRetained(t.Context(), "a/#", RetainedOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestManyFetchesAtOnce(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 50 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		var wg sync.WaitGroup
		for i := range 20 {
			filter := []string{"a/#", "a/+", "#", "a/7"}[i%4]
			wg.Go(func() {
				found, err := r.c.FetchRetained(t.Context(), filter, RetainedOptions{})
				if want := []int{50, 50, 50, 1}[i%4]; err != nil || len(found.Messages) != want {
					t.Errorf("%s: %v, %+v", filter, err, found)
				}
			})
		}
		wg.Wait()
	})
}

func TestMirrorRetained(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		r.set("a/1", "x")
		r.set("a/2/3", "y")
		r.set("$a/1", "z")
		view := must1(r.c.MirrorRetained(t.Context(), "#", RetainedOptions{}))
		hidden := must1(r.c.MirrorRetained(t.Context(), "$a/#", RetainedOptions{}))
		if end, err := view.Synced(t.Context()); err != nil || end != ByMarker {
			t.Fatal(end, err)
		}
		must1(hidden.Synced(t.Context()))
		changes := view.Changes()
		r.set("a/1", "x2")
		r.set("a/2/3", "")
		wantState(r.t, publish(r.t, r.other, "a/1", "not retained", AtLeastOnce), Acked)
		synctest.Wait()
		for _, c := range []struct {
			filter string
			want   []string
		}{
			{"#", []string{"a/1=x2"}}, {"a/+", []string{"a/1=x2"}}, {"+/1", []string{"a/1=x2"}}, {"a/2/#", nil}, {"$a/#", nil},
		} {
			if got := told(must1(view.Match(c.filter))); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q", c.filter, got)
			}
		}
		for _, c := range []struct {
			filter string
			want   []string
		}{{"#", nil}, {"+/1", nil}, {"$a/+", []string{"$a/1=z"}}} { // [MQTT-4.7.2-1]
			if got := told(must1(hidden.Match(c.filter))); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q", c.filter, got)
			}
		}
		if _, err := view.Match("a/#/b"); err == nil {
			t.Error("a filter that is none")
		}
		// What happens while we are away is told when we are back.
		r.p.Refuse(true)
		r.p.Cut()
		r.set("a/1", "")
		r.set("a/4", "new")
		if m, ok := view.Get("a/1"); !ok || string(m.Payload) != "x2" {
			t.Error("the view is not as it was while the link is away")
		}
		r.p.Refuse(false)
		time.Sleep(2 * time.Second)
		must1(view.Synced(t.Context()))
		if got := told(slices.Collect(view.All())); !slices.Equal(got, []string{"a/4=new"}) || view.Len() != 1 {
			t.Errorf("%q", got)
		}
		view.Close()
		view.Close()
		var said []string
		for c := range changes {
			s := fmt.Sprint(c.Kind)
			if c.Message != nil {
				s += " " + c.Message.Topic
			}
			said = append(said, s)
		}
		if want := []string{"0 a/1", "1 a/2/3", "0 a/4", "1 a/1", "2"}; !slices.Equal(said, want) {
			t.Errorf("told %q, want %q", said, want)
		}
	})
}

func TestMirrorIsBounded(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 5 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		view := must1(r.c.MirrorRetained(t.Context(), "a/#", RetainedOptions{MaxMessages: 3}))
		if _, err := view.Synced(t.Context()); !errors.As(err, new(*RetainedLimitError)) {
			t.Error(err)
		}
		if view.Len() != 3 || view.Refused() != 2 {
			t.Errorf("%d, %d refused", view.Len(), view.Refused())
		}
		r.set("a/0", "larger")
		r.set("a/1", "")
		synctest.Wait()
		if m, ok := view.Get("a/0"); !ok || string(m.Payload) != "larger" || view.Len() != 2 {
			t.Errorf("%v, %d", m, view.Len())
		}
	})
}

func TestMirrorKnowsExpiry(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		d, err := r.other.Publish(t.Context(), Message{Topic: "a", Payload: []byte("x"), QoS: AtLeastOnce, Retain: true, Expiry: time.Minute})
		must(t, err)
		wantState(t, d, Acked)
		view := must1(r.c.MirrorRetained(t.Context(), "#", RetainedOptions{}))
		must1(view.Synced(t.Context()))
		if _, ok := view.Get("a"); !ok {
			t.Error("not there")
		}
		time.Sleep(time.Minute)
		if _, ok := view.Get("a"); ok || len(told(must1(view.Match("#")))) != 0 {
			t.Error("it has expired")
		}
	})
}
