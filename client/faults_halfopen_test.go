package client_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// halfOpen is a link that stops forwarding in some directions without closing.
type halfOpen struct {
	dead     []mqtttest.Direction
	sending  bool // the client publishes at QoS 0 all the time
	hearing  bool // the client receives messages all the time
	unacked  bool // a message of the client is in flight
	keep     time.Duration
	ack      time.Duration
	within   time.Duration // limit of the time to detection
	byServer bool          // the server detects it
	want     error
}

// A half-open link is detected in time, in each direction and with any traffic: within 1.5 times
// the keep alive, or within 1.25 times AckTimeout if messages wait for acknowledgements.
func TestFaultHalfOpen_IsDetectedInTime(t *testing.T) {
	deaf, mute := []mqtttest.Direction{mqtttest.ToClient}, []mqtttest.Direction{mqtttest.ToServer}
	both := []mqtttest.Direction{mqtttest.ToClient, mqtttest.ToServer}
	const keep, ack, never = 20 * time.Second, 8 * time.Second, 9 * time.Hour
	for name, tt := range map[string]halfOpen{
		"we hear nothing, idle":                   {dead: deaf, keep: keep, ack: never, within: keep * 3 / 2, want: client.ErrKeepAlive},
		"we hear nothing, and say a lot":          {dead: deaf, sending: true, keep: keep, ack: never, within: keep * 3 / 2, want: client.ErrKeepAlive},
		"we hear nothing, unacknowledged":         {dead: deaf, unacked: true, keep: never, ack: ack, within: ack * 5 / 4, want: client.ErrAckTimeout},
		"we hear nothing, both":                   {dead: deaf, unacked: true, keep: keep, ack: never, within: keep * 3 / 2, want: client.ErrKeepAlive},
		"they hear nothing, idle":                 {dead: mute, keep: keep, ack: never, within: keep * 3 / 2},
		"they hear nothing, and say a lot":        {dead: mute, hearing: true, keep: keep, ack: never, within: keep * 3 / 2, byServer: true},
		"they hear nothing, unacknowledged":       {dead: mute, unacked: true, keep: never, ack: ack, within: ack * 5 / 4, want: client.ErrAckTimeout},
		"they hear nothing, say a lot, and unack": {dead: mute, unacked: true, hearing: true, keep: keep, ack: ack, within: ack * 5 / 4, want: client.ErrAckTimeout},
		"nobody hears anything, idle":             {dead: both, keep: keep, ack: never, within: keep * 3 / 2, want: client.ErrKeepAlive},
		"nobody hears anything, unacknowledged":   {dead: both, unacked: true, keep: never, ack: ack, within: ack * 5 / 4, want: client.ErrAckTimeout},
		"a longer keep alive":                     {dead: both, keep: 10 * keep, ack: never, within: 15 * keep, want: client.ErrKeepAlive},
		"a shorter time for acknowledgements":     {dead: deaf, unacked: true, keep: keep, ack: ack / 4, within: ack * 5 / 16, want: client.ErrAckTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			var worst time.Duration
			for phase := range 8 { // moment in the cycle of the keep alive at which the link fails
				worst = max(worst, tt.test(t, phase))
			}
			t.Logf("found after %v at the latest, %.2f of what is promised", worst, worst.Seconds()/tt.within.Seconds())
			if worst > tt.within {
				t.Errorf("found after %v, promised are %v", worst, tt.within)
			}
			if worst < tt.within/4 {
				t.Errorf("found after %v at the latest: is it the link that is found dead, or something else?", worst)
			}
		})
	}
}

func (h halfOpen) test(t *testing.T, phase int) (found time.Duration) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		var events recorder
		cfg := testConfig("c", &events, sendingThrough(p))
		cfg.Connection.KeepAlive, cfg.Connection.AckTimeout = h.keep, h.ack
		gone := make(chan struct{}, 100)
		cfg.OnEvent = func(e client.Event) {
			events.add(e)
			if _, ended := e.(client.Disconnected); ended {
				gone <- struct{}{}
			}
		}
		c := mustStart(t, cfg)
		other := mustStart(t, testConfig("other", &recorder{}, b.Dial))
		in := newInbox()
		connect(t, c)
		connect(t, other)
		must1(c.Subscribe(t.Context(), "in", client.AtMostOnce, in))
		ended := make(chan struct{})
		stop := sync.OnceFunc(func() { close(ended) })
		defer stop()
		chatter := func(on bool, who *client.Client, topic string) {
			if !on {
				return
			}
			go func() {
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for {
					_, _ = who.Publish(t.Context(), client.Message{Topic: topic}) // fails without a connection
					select {
					case <-tick.C:
					case <-ended:
						return
					}
				}
			}()
		}
		chatter(h.sending, c, "out")
		chatter(h.hearing, other, "in")
		time.Sleep(50*time.Millisecond + 2*min(h.keep, 10*h.ack) + time.Duration(phase)*min(h.keep, 10*h.ack)/8)
		if len(eventsOf[client.Disconnected](&events)) > 0 {
			t.Fatal("it went before it was cut")
		}
		p.Stall(h.dead...)
		died := time.Now()
		if h.unacked {
			publish(t, c, "t", "x", client.AtLeastOnce)
		}
		select {
		case <-gone:
		case <-time.After(24 * time.Hour):
			t.Fatal("it was never found")
		}
		found = time.Since(died)
		e := eventsOf[client.Disconnected](&events)
		var said *client.ConnectionError
		switch {
		case h.byServer && !(errors.As(e[0].Err, &said) && said.Code == 0x8D):
			t.Errorf("%v, want the server's 0x8D", e[0].Err)
		case h.want != nil && !errors.Is(e[0].Err, h.want):
			t.Errorf("%v, want %v", e[0].Err, h.want)
		}
		stop()
		p.Resume()
		p.Cut() // discards bytes in the failed link
		wantState(t, publish(t, c, "t", "y", client.ExactlyOnce), client.Acked)
		if n := c.Stats().Store.Pending; n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
	return found
}

// After NetworkChanged, a connected client sends a PINGREQ at once and reconnects soon if there is
// no answer.
func TestFaultNetworkChanged_WhileConnected(t *testing.T) {
	for _, tt := range []struct{ keep, within time.Duration }{
		{2 * time.Second, time.Second}, {30 * time.Second, 5 * time.Second}, {time.Hour, 5 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.keep), func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				var events recorder
				cfg := testConfig("c", &events, sendingThrough(p))
				cfg.Connection.KeepAlive, cfg.Connection.AckTimeout = tt.keep, 9*time.Hour
				c := mustStart(t, cfg)
				connect(t, c)
				for range 5 { // the link still works
					time.Sleep(tt.keep / 3)
					c.NetworkChanged()
				}
				time.Sleep(10 * tt.keep)
				if n := len(eventsOf[client.Disconnected](&events)); n > 0 {
					t.Fatalf("a live connection was given up: %v", eventsOf[client.Disconnected](&events)[0].Err)
				}
				for range 3 { // the link no longer works
					time.Sleep(tt.keep / 3)
					d := publish(t, c, "t", "x", client.AtLeastOnce)
					wantState(t, d, client.Acked)
					before := len(eventsOf[client.Disconnected](&events))
					p.Stall()
					time.Sleep(tt.keep / 4)
					d = publish(t, c, "t", "x", client.AtLeastOnce)
					changed := time.Now()
					c.NetworkChanged()
					awaitEvents[client.Disconnected](t, &events, before+1, 2*tt.within)
					if took := time.Since(changed); took > tt.within+time.Millisecond || took < tt.within {
						t.Errorf("given up after %v, want %v", took, tt.within)
					}
					p.Resume()
					p.Cut()
					wantState(t, d, client.Acked)
				}
				for _, e := range eventsOf[client.Disconnected](&events) {
					if !errors.Is(e.Err, client.ErrKeepAlive) {
						t.Errorf("%v, want ErrKeepAlive", e.Err)
					}
				}
			})
		})
	}
}

// A call of NetworkChanged at the end or the beginning of a connection has an effect, and has none
// on a delay hours later.
func TestFaultNetworkChanged_AtEveryMoment(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		var c *client.Client
		var call atomic.Bool
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.OnEvent = func(e client.Event) {
			switch e.(type) {
			case client.Connecting, client.Connected, client.Disconnected:
				if call.Load() {
					c.NetworkChanged()
				}
			}
		}
		c = mustNew(t, cfg)
		call.Store(true)
		start(t, c)
		<-a.asked
		p := a.accept(control.Connack{})
		time.Sleep(time.Hour)
		p.close() // Disconnected calls NetworkChanged
		began := time.Now()
		a.want(began, "one:1883 0s")
		p = a.accept(control.Connack{})
		call.Store(false)
		time.Sleep(time.Hour)
		p.close()
		began = time.Now()
		a.want(began, "one:1883 1s") // this attempt has its own delay
	})
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.OnEvent = func(e client.Event) {
			if _, ok := e.(client.Connected); ok {
				time.Sleep(time.Minute)
			}
		}
		c := mustStart(t, cfg)
		<-a.asked
		p := a.accept(control.Connack{})
		began := time.Now()
		time.Sleep(time.Second)
		p.close()
		time.Sleep(time.Millisecond)
		c.NetworkChanged()
		a.want(began, "one:1883 1.001s") // OnEvent holds up nothing
	})
}
