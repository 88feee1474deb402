package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/persistence"
)

// TestViews_ClearedDuringAnotherFetch is gone from a watch and a mirror of the same
// filter, whenever it comes, and no alarm is given, however impatient the watch.
func TestViews_ClearedDuringAnotherFetch(t *testing.T) {
	for delay := 5 * time.Millisecond; delay < 100*time.Millisecond; delay += 10 * time.Millisecond {
		t.Run(delay.String(), func(t *testing.T) {
			inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{StaleAfter: -1}, func(w *watched) {
				t := w.t
				v := must1(w.c.MirrorRetained(t.Context(), "d/+/status", client.RetainedOptions{}))
				must1(v.Synced(t.Context()))
				w.p.Delay(20*time.Millisecond, 0)
				var fetching sync.WaitGroup
				fetching.Go(func() {
					_, err := w.c.FetchRetained(t.Context(), "d/+/status", client.RetainedOptions{})
					must(t, err)
				})
				time.Sleep(delay)
				w.say("d/2/status", "")
				fetching.Wait()
				time.Sleep(time.Second)
				if m, ok := v.Get("d/2/status"); ok {
					t.Errorf("the mirror has %q, which was cleared", m.Payload)
				}
				w.d.want(t, "d/2/status online>unknown")
			})
		})
	}
}

// TestWatch_FilterRefusedLater: what a watch knew is not believed any more.
func TestWatch_FilterRefusedLater(t *testing.T) {
	var deny atomic.Bool
	inWatch(t, mqtttest.Options{Authorize: func(_ context.Context, id, topic string, write bool) byte {
		if deny.Load() && !write && topic == "d/+/status" {
			return 0x87
		}
		return 0
	}}, client.NoSession, client.WatchOptions{}, func(w *watched) {
		deny.Store(true)
		if _, err := w.c.FetchRetained(w.t.Context(), "d/+/status", client.RetainedOptions{}); !errors.As(err, new(*client.RefusedError)) {
			w.t.Error(err)
		}
		if _, err := w.w.Synced(w.t.Context()); !errors.As(err, new(*client.RefusedError)) {
			w.t.Error(err)
		}
		w.say("d/0/status", "offline")
		time.Sleep(time.Minute)
		if s := w.state("d/0/status"); s != presence.Stale {
			w.t.Errorf("a device of which nothing is heard is %v", s)
		}
		w.d.want(w.t, "view stale")
	})
}

// TestFetchRetained_RepeatedFetchesEnd do not keep each other from an end.
func TestFetchRetained_RepeatedFetchesEnd(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		r.set("a/1", "x")
		r.p.Delay(50*time.Millisecond, 0)
		var ended atomic.Int32
		var fetching sync.WaitGroup
		for range 100 {
			fetching.Go(func() {
				if _, err := r.c.FetchRetained(r.t.Context(), "a/#", client.RetainedOptions{}); err == nil {
					ended.Add(1)
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
		if n := ended.Load(); n < 60 {
			r.t.Errorf("%d fetches of 100 have ended, where each takes less than 0.8 s", n)
		}
		fetching.Wait()
		if n := ended.Load(); n != 100 {
			r.t.Errorf("%d fetches of 100 have ended well", n)
		}
	})
}

// TestMirrorRetained_TwoMirrorsEnd end both, although something is published all the time
// that handlers want too.
func TestMirrorRetained_TwoMirrorsEnd(t *testing.T) {
	inRetaining(t, mqtttest.Options{}, nil, func(r *retaining) {
		must(r.t, r.c.Handle("+/1", newInbox()))
		r.p.Delay(20*time.Millisecond, 0)
		over, stop := context.WithCancel(r.t.Context())
		var busy sync.WaitGroup
		busy.Go(func() {
			for over.Err() == nil {
				publish(r.t, r.other, "a/1", "not retained", client.AtMostOnce)
				time.Sleep(3 * time.Millisecond)
			}
		})
		var views [2]*client.RetainedView
		for i := range views {
			views[i] = must1(r.c.MirrorRetained(r.t.Context(), "a/#", client.RetainedOptions{}))
			time.Sleep(70 * time.Millisecond)
		}
		for _, v := range views {
			ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
			if _, err := v.Synced(ctx); err != nil {
				r.t.Error(err)
			}
			cancel()
		}
		before := client.Fetches(r.c)
		time.Sleep(10 * time.Second)
		if more := client.Fetches(r.c) - before; more > 8 {
			r.t.Errorf("fetched %d times more", more)
		}
		stop()
		busy.Wait()
	})
}

// TestViews_QueuedMessagesOfEarlierProcess is history for the next one, although both make
// the same subscription.
func TestViews_QueuedMessagesOfEarlierProcess(t *testing.T) {
	for _, without := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("without identifiers %v, watched when connected %v", without, late), func(t *testing.T) {
				keptForAnEarlierProcess(t, without, late)
			})
		}
	}
}

func keptForAnEarlierProcess(t *testing.T, without, late bool) {
	inBubble(t, mqtttest.Options{DisableSubID: without}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		devices := mustStart(t, testConfig("devices", &recorder{}, b.Dial))
		say := func(payload string) {
			d, err := devices.SetRetained(t.Context(), "d/1/status", []byte(payload))
			must(t, err)
			wantState(t, d, client.Acked)
		}
		say("online")
		store := persistence.NewMemory(persistence.Options{})
		cfg := testConfig("c", &recorder{}, through(p))
		cfg.Session.Expiry, cfg.Store.Custom, cfg.Receiving.ReceiveMaximum = time.Hour, store, 1
		c := mustNew(t, cfg)
		ctx, kill := context.WithCancel(t.Context())
		must(t, c.Start(ctx))
		must1(must1(c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{})).Synced(t.Context()))
		kill() // or the subscription would be ended
		<-c.Done()
		for range 10 {
			say("offline")
			say("online")
		}
		p.Delay(20*time.Millisecond, 0) // one of them for each turn
		cfg.Store.Custom = store.Reopen()
		c = mustStart(t, cfg)
		if late {
			connect(t, c)
		}
		var d diary
		w := must1(c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{OnChange: d.note}))
		must1(w.Synced(t.Context()))
		time.Sleep(time.Minute)
		d.want(t, "d/1/status unknown>online", "view synced")
	})
}

// TestViews_TooManyFilters are refused, and a place is free again when one is closed.
func TestViews_TooManyFilters(t *testing.T) {
	c := mustNew(t, testConfig("c", &recorder{}, nil))
	for i := range retained.MaxFilters - 1 {
		must1(client.AddView(c, fmt.Sprint("d/", i)))
	}
	last := must1(c.WatchStatus(t.Context(), "last", client.WatchOptions{}))
	if _, err := c.WatchStatus(t.Context(), "more", client.WatchOptions{}); !errors.Is(err, client.ErrTooManyFilters) {
		t.Error(err)
	}
	if _, err := c.FetchRetained(t.Context(), "more", client.RetainedOptions{}); !errors.Is(err, client.ErrTooManyFilters) {
		t.Error(err)
	}
	last.Close()
	must1(c.WatchStatus(t.Context(), "more", client.WatchOptions{}))
}

// TestMarker_ClientIDTooLong: the client sends no marker, and the connection stays up.
func TestMarker_ClientIDTooLong(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		c := mustStart(t, testConfig(strings.Repeat("x", 65_535), &recorder{}, b.Dial))
		found, err := c.FetchRetained(t.Context(), "a/#", client.RetainedOptions{})
		must(t, err)
		if found.End != client.BySilence || c.Stats().Connections != 1 {
			t.Errorf("%v, %d connections", found.End, c.Stats().Connections)
		}
	})
}

// TestViews_BesideSharedSubscriptions: a group gets each message once, whatever its
// members watch or listen to.
func TestViews_BesideSharedSubscriptions(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		group := newInbox()
		var members []*client.Client
		for i := range 3 {
			cfg := testConfig(fmt.Sprint("c", i), &recorder{}, b.Dial)
			cfg.Presence.Status = &client.Status{Topic: fmt.Sprintf("d/c%d/status", i)}
			c := mustStart(t, cfg)
			members = append(members, c)
			must1(c.Subscribe(t.Context(), "$share/g/d/#", client.AtLeastOnce, group))
		}
		time.Sleep(time.Second)
		say := func(topic, payload string, want int) {
			t.Helper()
			before := len(group.messages())
			d, err := members[0].SetRetained(t.Context(), topic, []byte(payload))
			must(t, err)
			wantState(t, d, client.Acked)
			time.Sleep(time.Second)
			if n := len(group.messages()) - before; n != want {
				t.Errorf("%s: the group got %d messages, want %d", topic, n, want)
			}
		}
		say("d/c1/status", "offline", 2) // and what c1 says to that
		for _, c := range members {
			must1(must1(c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{})).Synced(t.Context()))
		}
		say("d/x/status", "online", 1)
		say("d/c1/status", "offline", 2)
		must(t, members[2].Unsubscribe(t.Context(), "$share/g/d/#"))
		synctest.Wait()
		say("d/x/status", "offline", 1)
	})
}

// TestNoLocal_IsKeptOnStatusTopic for the own status topic, although we listen to it without.
func TestNoLocal_IsKeptOnStatusTopic(t *testing.T) {
	for _, without := range []bool{false, true} {
		inBubble(t, mqtttest.Options{DisableSubID: without}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
			cfg := testConfig("c", &recorder{}, b.Dial)
			cfg.Presence.Status = &client.Status{Topic: "d/c/status"}
			c := mustNew(t, cfg)
			in := newInbox()
			must1(c.Subscribe(t.Context(), "d/#", client.AtLeastOnce, in, client.NoLocal(), client.RetainHandling(client.SendRetainedNever)))
			start(t, c)
			connect(t, c)
			time.Sleep(time.Second)
			if got := in.payloads(); len(got) != 0 {
				t.Errorf("a handler with NoLocal got %q, of its own client", got)
			}
			other := mustStart(t, testConfig("other", &recorder{}, b.Dial))
			must1(other.SetRetained(t.Context(), "d/c/status", []byte("offline")))
			time.Sleep(time.Second)
			if got := in.payloads(); len(got) != 1 || got[0] != "offline" {
				t.Errorf("it got %q, want what another says", got)
			}
		})
	}
}
