package client_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// retaining is a test bed with some retained messages: other sets them, c fetches.
type retaining struct {
	t        *testing.T
	b        *mqtttest.Broker
	p        *mqtttest.Proxy
	other, c *client.Client
	events   recorder
}

func inRetaining(t *testing.T, o mqtttest.Options, change func(*client.Config), test func(r *retaining)) {
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
		wantState(r.t, d, client.Acked)
		return
	}
	d, err := r.other.SetRetained(r.t.Context(), topic, []byte(payload))
	must(r.t, err)
	wantState(r.t, d, client.Acked)
}

func (r *retaining) fetch(filter string, want ...string) *client.Retained {
	r.t.Helper()
	found, err := r.c.FetchRetained(r.t.Context(), filter, client.RetainedOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if got := told(found.Messages); !slices.Equal(got, want) {
		r.t.Errorf("%s: got %q, want %q", filter, got, want)
	}
	return found
}

func told(list []*client.Message) (said []string) {
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
		if f := r.fetch("a/+", "a/1=x", "a/2=y"); f.End != client.ByMarker {
			t.Errorf("ended %v", f.End)
		}
		if m := r.fetch("#", "a/1=x", "a/2=y", "b/1=z").Messages[0]; !m.Retain || len(m.SubscriptionIDs) != 0 {
			t.Errorf("%+v", m)
		}
		r.fetch("$x/#", "$x/1=hidden")
		r.fetch("nothing/#")
		r.set("a/1", "")
		r.fetch("a/+", "a/2=y")
		must(t, r.b.WaitFor(t.Context(), func() bool { return r.b.Stats().Subscriptions == 1 })) // the marker's
		if s := r.c.Stats(); s.Unhandled != 0 {
			t.Errorf("%d messages were refused", s.Unhandled)
		}
		if _, err := r.c.SetRetained(t.Context(), "a/1", nil); !errors.As(err, new(*client.FieldError)) {
			t.Errorf("an empty payload: %v", err)
		}
		for _, filter := range []string{"", "a/#/b", "$share/g/a"} {
			if _, err := r.c.FetchRetained(t.Context(), filter, client.RetainedOptions{}); !errors.As(err, new(*client.FieldError)) {
				t.Errorf("%q: %v", filter, err)
			}
		}
	})
}

func TestFetchRetained_TenThousand(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		const n = 10_000
		var last *client.Delivery
		for i := range n {
			last = must1(r.other.SetRetained(t.Context(), fmt.Sprintf("many/%d", i), []byte("x")))
		}
		wantState(t, last, client.Acked)
		found, err := r.c.FetchRetained(t.Context(), "many/#", client.RetainedOptions{})
		if err != nil || len(found.Messages) != n || found.End != client.ByMarker {
			t.Fatalf("%v, %d messages, %v", err, len(found.Messages), found.End)
		}
		var limit *client.RetainedLimitError
		if _, err := r.c.FetchRetained(t.Context(), "many/#", client.RetainedOptions{MaxMessages: n - 1}); !errors.As(err, &limit) || limit.Messages != n-1 {
			t.Errorf("%v", err)
		}
		if _, err := r.c.FetchRetained(t.Context(), "many/#", client.RetainedOptions{MaxBytes: 1000}); !errors.As(err, &limit) || limit.Bytes > 1000 {
			t.Errorf("%v", err)
		}
	})
}

// errOf returns the error of a call.
func errOf[T any](_ T, err error) error { return err }

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestFetchRetained_KeepsApplicationSubscriptions: whatever the server does with
// messages that several subscriptions match, and whatever the filters.
func TestFetchRetained_KeepsApplicationSubscriptions(t *testing.T) {
	for _, filter := range []string{"a/+", "a/#", "#"} {
		for _, options := range [][]client.SubscribeOption{nil, {client.SubscriptionID(7)}, {client.RetainAsPublished()}} {
			t.Run(fmt.Sprintf("%s, %d options", filter, len(options)), func(t *testing.T) {
				inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
					t := r.t
					r.set("a/1", "x")
					in := newInbox()
					must1(r.c.Subscribe(t.Context(), filter, client.ExactlyOnce, in, options...))
					synctest.Wait()
					if got := in.payloads(); !slices.Equal(got, []string{"x"}) {
						t.Fatalf("its own retained message: %q", got)
					}
					view, err := r.c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{})
					must(t, err)
					must1(view.Synced(t.Context()))
					for i := range 3 {
						r.set("a/2", fmt.Sprint(i))
						r.fetch("a/+", "a/1=x", "a/2="+fmt.Sprint(i))
					}
					synctest.Wait()
					got := slices.Compact(in.payloads())
					rap := len(options) > 0 && client.AsksRetainAsPublished(r.c, filter)
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
					if last.QoS != client.AtLeastOnce {
						t.Errorf("the subscription has another QoS: %+v", last)
					}
				})
			})
		}
	}
}

// TestViews_SurviveSubscribeAndUnsubscribe: Subscribe replaces the view's subscription at the server, and
// Unsubscribe ends it.
func TestViews_SurviveSubscribeAndUnsubscribe(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		r.set("a/1", "x")
		view, err := r.c.MirrorRetained(t.Context(), "a/+", client.RetainedOptions{})
		must(t, err)
		must1(view.Synced(t.Context()))
		in := newInbox()
		must1(r.c.Subscribe(t.Context(), "a/+", client.AtLeastOnce, in, client.SubscriptionID(5)))
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

func TestFetchRetained_Concurrently(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		t := r.t
		for i := range 50 {
			r.set(fmt.Sprintf("a/%d", i), "x")
		}
		var wg sync.WaitGroup
		for i := range 20 {
			filter := []string{"a/#", "a/+", "#", "a/7"}[i%4]
			wg.Go(func() {
				found, err := r.c.FetchRetained(t.Context(), filter, client.RetainedOptions{})
				if want := []int{50, 50, 50, 1}[i%4]; err != nil || len(found.Messages) != want {
					t.Errorf("%s: %v, %+v", filter, err, found)
				}
			})
		}
		wg.Wait()
	})
}
