package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/client/presence"
)

// diary keeps the changes that a watch tells.
type diary struct {
	mu   sync.Mutex
	list []string
}

func (d *diary) note(c presence.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := c.Kind.String()
	if c.Kind == presence.Changed || c.Kind == presence.Forgotten {
		s = fmt.Sprintf("%s %v>%v", c.Device.Topic, c.From, c.Device.State)
	}
	d.list = append(d.list, s)
}

// since returns and clears the recorded changes.
func (d *diary) since() (list []string) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	list, d.list = d.list, nil
	slices.Sort(list)
	return list
}

func (d *diary) want(t *testing.T, want ...string) {
	t.Helper()
	if got := d.since(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// watched is a test bed: devices are one client that sets retained topics, straight
// at the broker, and the watcher's link is the proxy.
type watched struct {
	t       *testing.T
	b       *mqtttest.Broker
	p       *mqtttest.Proxy
	devices *client.Client
	events  recorder // the watcher's
	c       *client.Client
	w       *client.StatusWatch
	d       diary
}

func inWatch(t *testing.T, o mqtttest.Options, expiry time.Duration, wo client.WatchOptions, test func(w *watched)) {
	t.Helper()
	inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		w := &watched{t: t, b: b, p: p}
		var others recorder
		w.devices = mustStart(t, testConfig("devices", &others, b.Dial))
		connect(t, w.devices)
		w.say("d/0/status", "online")
		w.say("d/1/status", "offline")
		w.say("d/2/status", "online")
		cfg := testConfig("watcher", &w.events, through(p))
		cfg.Session.Expiry = expiry
		w.c = mustStart(t, cfg)
		wo.OnChange = w.d.note
		switch {
		case wo.StaleAfter == 0:
			wo.StaleAfter = 15 * time.Second
		case wo.StaleAfter < 0: // the default, at once
			wo.StaleAfter = 0
		}
		var err error
		if w.w, err = w.c.WatchStatus(t.Context(), "d/+/status", wo); err != nil {
			t.Fatal(err)
		}
		w.synced(client.ByMarker)
		w.d.want(t, "d/0/status unknown>online", "d/1/status unknown>offline", "d/2/status unknown>online", "view synced")
		test(w)
	})
}

// say sets a retained topic and waits until the broker has it.
func (w *watched) say(topic, payload string) {
	w.t.Helper()
	d, err := w.devices.Publish(w.t.Context(), client.Message{Topic: topic, Payload: []byte(payload), QoS: client.AtLeastOnce, Retain: true})
	if err != nil {
		w.t.Fatal(err)
	}
	wantState(w.t, d, client.Acked)
}

func (w *watched) synced(want client.SyncEnd) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if end, err := w.w.Synced(ctx); err != nil || end != want {
		w.t.Fatalf("synced %v, %v; want %v", end, err, want)
	}
}

func (w *watched) state(topic string) presence.State {
	d, _ := w.w.Get(topic)
	return d.State
}

// away cuts the watcher's link for d and does something meanwhile.
func (w *watched) away(d time.Duration, meanwhile func()) {
	w.t.Helper()
	w.p.Refuse(true)
	w.p.Cut()
	synctest.Wait()
	meanwhile()
	time.Sleep(d)
	w.p.Refuse(false)
	connect(w.t, w.c)
	w.synced(client.ByMarker)
}

func TestWatch_ReportsChanges(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{}, func(w *watched) {
		w.say("d/0/status", "offline")
		w.say("d/3/status", "online")
		w.say("d/2/status", "")
		w.say("d/2/other", "online")
		w.d.want(w.t, "d/0/status online>offline", "d/2/status online>unknown", "d/3/status unknown>online")
		if c := w.w.Counts(); c.Devices != 3 || c.Online != 1 || c.Offline != 2 || !c.Synced {
			w.t.Errorf("%+v", c)
		}
		if n := w.c.Stats().Unhandled; n != 0 {
			w.t.Errorf("%d messages were refused", n)
		}
		w.w.Close()
		w.w.Close()
		w.say("d/0/status", "online")
		w.d.want(w.t)
		if _, err := w.w.Synced(w.t.Context()); !errors.Is(err, client.ErrClosed) {
			w.t.Errorf("Synced of a closed watch: %v", err)
		}
		must(w.t, w.b.WaitFor(w.t.Context(), func() bool { return w.b.Stats().Subscriptions <= 2 })) // the marker's
	})
}

// TestWatch_ReportsNoFalseOffline: the watcher's link is interrupted for short and long times, with and
// without a lost session, and with and without changes meanwhile.
func TestWatch_ReportsNoFalseOffline(t *testing.T) {
	for _, expiry := range []time.Duration{client.NoSession, time.Hour} {
		for _, drop := range []bool{false, true} {
			t.Run(fmt.Sprintf("expiry %v, dropped %v", expiry, drop), func(t *testing.T) {
				inWatch(t, mqtttest.Options{}, expiry, client.WatchOptions{}, func(w *watched) {
					lose := func() {
						if drop {
							w.b.DropSession("watcher")
						}
					}
					w.away(time.Second, lose)
					w.d.want(t, "view synced")
					w.away(time.Minute, lose)
					w.d.want(t, "view stale", "view synced")
					w.away(time.Second, func() {
						lose()
						w.say("d/0/status", "offline")
						w.say("d/0/status", "online")
						w.say("d/1/status", "online")
						w.say("d/2/status", "")
						w.say("d/3/status", "online")
					})
					w.d.want(t, "d/1/status offline>online", "d/2/status online>unknown", "d/3/status unknown>online", "view synced")
					w.say("d/0/status", "offline") // it is a live subscription again
					w.d.want(t, "d/0/status online>offline")
				})
			})
		}
	}
}

func TestWatch_OnlineIsStaleWhileDisconnected(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{StaleAfter: 20 * time.Second}, func(w *watched) {
		time.Sleep(time.Second)
		last := time.Now() // the last packet came a second ago
		w.p.Refuse(true)
		w.p.Cut()
		time.Sleep(19*time.Second - 10*time.Millisecond)
		if w.state("d/0/status") != presence.Online {
			w.t.Error("stale too early")
		}
		time.Sleep(20 * time.Millisecond)
		if w.state("d/0/status") != presence.Stale || w.state("d/1/status") != presence.Offline {
			w.t.Errorf("%v and %v after %v", w.state("d/0/status"), w.state("d/1/status"), time.Since(last))
		}
		w.d.want(w.t, "view stale")
		if c := w.w.Counts(); c.Stale != 2 || c.Online != 0 || c.Synced {
			w.t.Errorf("%+v", c)
		}
	})
}

// TestWatch_BrokerLosesRetainedMessages: the devices are forgotten. They return with their next status
// message.
func TestWatch_BrokerLosesRetainedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		start := func(dir string) *mqtttest.Broker {
			return mqtttest.Start(t, mqtttest.With(mqtttest.Options{NoTCP: true, Dir: dir}))
		}
		b := start(dir)
		p := mqtttest.NewPipeProxy(func(context.Context) (net.Conn, error) { return b.Dial(), nil })
		t.Cleanup(func() { _ = p.Close() })
		var events recorder
		devices := mustStart(t, testConfig("devices", &events, through(p)))
		w := &watched{t: t, b: b, p: p, devices: devices}
		w.c = mustStart(t, testConfig("watcher", &w.events, through(p)))
		w.say("d/0/status", "online")
		var err error
		w.w, err = w.c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{OnChange: w.d.note, StaleAfter: 15 * time.Second})
		must(t, err)
		w.synced(client.ByMarker)
		w.d.want(t, "d/0/status unknown>online", "view synced")
		restart := func(dir string) {
			p.Refuse(true)
			must(t, b.Close())
			time.Sleep(time.Second)
			b = start(dir)
			p.Refuse(false)
			connect(t, w.c)
			w.synced(client.ByMarker)
		}
		restart(dir)
		w.d.want(t, "view synced")
		restart(t.TempDir())
		w.d.want(t, "d/0/status online>unknown", "view synced")
		w.say("d/0/status", "online")
		w.d.want(t, "d/0/status unknown>online")
	})
}

func TestWatch_ChangesAreLimitedAndEnd(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{Queue: 4}, func(w *watched) {
		slow, left := w.w.Changes(), w.w.Changes()
		for i := range 12 { // 5 are too many, and again 5; 2 wait
			w.say("d/0/status", []string{"offline", "online"}[i%2])
		}
		w.d.since()
		var told []string
		for c := range slow {
			if c.Kind == presence.Missed {
				told = append(told, fmt.Sprint("missed ", c.Missed))
			} else if told = append(told, c.Device.State.String()); c.Device.State == presence.Online {
				break
			}
		}
		if !slices.Equal(told, []string{"missed 10", "offline", "online"}) {
			w.t.Errorf("told %q", told)
		}
		ended := make(chan int)
		go func() {
			n := 0
			for range left {
				n++
			}
			ended <- n
		}()
		synctest.Wait()
		must(w.t, w.c.Close())
		if n := <-ended; n == 0 {
			w.t.Error("nothing was reported")
		}
		for range w.w.Changes() {
			w.t.Error("told after the end")
		}
	})
}

func TestWatch_RefusedByServer(t *testing.T) {
	allowed := false
	var mu sync.Mutex
	o := mqtttest.Options{Authorize: func(_ context.Context, _, topic string, write bool) byte {
		mu.Lock()
		defer mu.Unlock()
		if topic == "d/+/status" && !allowed {
			return 0x87
		}
		return 0
	}}
	inBubble(t, o, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		c := mustStart(t, testConfig("watcher", &events, through(p)))
		connect(t, c)
		w, err := c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{})
		must(t, err)
		var refused *client.RefusedError
		if _, err := w.Synced(t.Context()); !errors.As(err, &refused) || refused.Code != 0x87 {
			t.Errorf("got %v", err)
		}
		synctest.Wait() // the event follows
		if n := len(eventsOf[client.SubscriptionFailed](&events)); n != 1 {
			t.Errorf("%d events", n)
		}
		mu.Lock()
		allowed = true
		mu.Unlock()
		p.Cut()
		time.Sleep(time.Second)
		connect(t, c)
		synctest.Wait()
		if _, err := w.Synced(t.Context()); err != nil {
			t.Errorf("the next connection does not make it good: %v", err)
		}
	})
}

func TestWatch_Ends(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{}, func(w *watched) {
		ctx, cancel := context.WithCancel(w.t.Context())
		again, err := w.c.WatchStatus(ctx, "d/+/status", client.WatchOptions{})
		must(w.t, err)
		if _, err := again.Synced(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.d.want(w.t) // the first is not disturbed by the second
		cancel()
		synctest.Wait()
		if _, err := again.Synced(w.t.Context()); !errors.Is(err, client.ErrClosed) {
			w.t.Errorf("the context ended: %v", err)
		}
		w.say("d/0/status", "offline")
		w.d.want(w.t, "d/0/status online>offline")
		for _, filter := range []string{"", "a/#/b", "$share/g/d/+/status"} {
			var field *client.FieldError
			if _, err := w.c.WatchStatus(w.t.Context(), filter, client.WatchOptions{}); !errors.As(err, &field) {
				w.t.Errorf("%q: %v", filter, err)
			}
		}
		if _, err := w.c.WatchStatus(ctx, "x", client.WatchOptions{}); !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
		must(w.t, w.c.Close())
		if _, err := w.c.WatchStatus(w.t.Context(), "x", client.WatchOptions{}); !errors.Is(err, client.ErrClosed) {
			w.t.Error(err)
		}
	})
}

func TestWatch_MissingHeartbeats(t *testing.T) {
	inWatch(t, mqtttest.Options{}, client.NoSession, client.WatchOptions{}, func(w *watched) {
		w.say("d/4/status", `{"state":"online","interval":10}`)
		w.d.want(w.t, "d/4/status unknown>online")
		time.Sleep(31 * time.Second)
		w.d.want(w.t, "d/4/status online>stale")
		w.say("d/4/status", `{"state":"online","interval":10}`)
		w.d.want(w.t, "d/4/status stale>online")
	})
}

func TestWatch_Parse(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		c := mustStart(t, testConfig("c", &events, b.Dial))
		connect(t, c)
		for topic, payload := range map[string]string{"d/0": "1", "d/1": "0", "d/2": "?"} {
			wantState(t, must1(c.SetRetained(t.Context(), topic, []byte(payload))), client.Acked)
		}
		w := must1(c.WatchStatus(t.Context(), "d/+", client.WatchOptions{Parse: func(_ string, payload []byte) (presence.Status, error) {
			switch string(payload) {
			case "1":
				return presence.Status{State: presence.Online}, nil
			case "0":
				return presence.Status{State: presence.Offline}, nil
			}
			panic("never seen that")
		}}))
		must1(w.Synced(t.Context()))
		if n := w.Counts(); n.Online != 1 || n.Offline != 1 || n.Unknown != 1 || n.Unreadable != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestWatch_TenThousandDevices: no device is missed, and the observer's own disconnection reports none.
func TestWatch_TenThousandDevices(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		const n = 10_000
		var events recorder
		devices := mustStart(t, testConfig("devices", &events, b.Dial))
		connect(t, devices)
		var last *client.Delivery
		for i := range n {
			last = must1(devices.SetRetained(t.Context(), fmt.Sprintf("d/%d/status", i), []byte("online")))
		}
		wantState(t, last, client.Acked)
		c := mustStart(t, testConfig("c", &events, through(p)))
		w := must1(c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{StaleAfter: 15 * time.Second}))
		must1(w.Synced(t.Context()))
		if got := w.Counts(); got.Online != n || got.Devices != n {
			t.Fatalf("%+v", got)
		}
		changes := w.Changes()
		for range 3 {
			p.Cut()
			time.Sleep(5 * time.Second)
			must1(w.Synced(t.Context()))
		}
		w.Close()
		for change := range changes {
			if change.Kind != presence.ViewSynced {
				t.Errorf("%+v", change)
			}
		}
		if got := w.Snapshot(); len(got) != n {
			t.Errorf("%d devices", len(got))
		}
	})
}

// A program that subscribes to the filter of a watch while there is no connection
// gets the retained messages too, once there is one.
func TestWatch_SubscribeWhileDisconnected(t *testing.T) {
	inWatch(t, mqtttest.Options{}, time.Hour, client.WatchOptions{}, func(w *watched) {
		in := newInbox()
		w.away(time.Second, func() {
			must1(w.c.Subscribe(w.t.Context(), "d/+/status", client.AtLeastOnce, in))
		})
		time.Sleep(time.Minute)
		if n := len(in.messages()); n != 3 {
			w.t.Errorf("%d retained messages came to the handler, want 3", n)
		}
	})
}

func TestWatch_CloseFromOnChange(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		c := mustStart(t, testConfig("watcher", &recorder{}, through(p)))
		began := time.Now()
		_, err := c.WatchStatus(t.Context(), "d/+/status", client.WatchOptions{OnChange: func(presence.Change) { _ = c.Close() }})
		must(t, err)
		<-c.Done()
		if d := time.Since(began); d >= client.Settings(c).Connection.CloseTimeout {
			t.Errorf("it ended after %v", d)
		}
	})
}

// A watch leaves nothing in a session that is kept: it would fill with what nobody
// wants, and have no room for what the program subscribed to.
func TestWatch_UnsubscribesBeforeDisconnect(t *testing.T) {
	inWatch(t, mqtttest.Options{MaxQueuedMessages: 100}, time.Hour, client.WatchOptions{}, func(w *watched) {
		in := newInbox()
		must1(w.c.Subscribe(w.t.Context(), "orders", client.AtLeastOnce, in))
		must(w.t, w.c.Close())
		for i := range 200 {
			w.say(fmt.Sprintf("d/%d/status", i), "online")
		}
		w.say("orders", "x")
		cfg := testConfig("watcher", &recorder{}, through(w.p))
		cfg.Session.Expiry = time.Hour
		cfg.Store.Custom = usedStoreOf(w.t, "watcher")
		c := mustNew(w.t, cfg)
		must(w.t, c.Handle("orders", in))
		start(w.t, c)
		if m := in.await(w.t, 1); string(m[0].Payload) != "x" {
			w.t.Errorf("%q came", m[0].Payload)
		}
		if n := c.Stats().Received; n != 1 {
			w.t.Errorf("%d messages came out of the session", n)
		}
	})
}
