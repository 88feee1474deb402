package mqtttest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestSession_LastsForItsExpiry(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name    string
		connect uint32
		leave   *control.Disconnect // nil: cut
		away    time.Duration
		present bool
	}{
		{"0 ends with the connection", 0, nil, 0, false},
		{"within", 10, nil, 9 * time.Second, true},
		{"over", 10, nil, 11 * time.Second, false},
		{"never", NeverExpires, nil, 365 * day, true},
		{"kept by DISCONNECT without a word about it", 10, &control.Disconnect{}, 9 * time.Second, true},
		{"lengthened in DISCONNECT", 10, &control.Disconnect{HasSessionExpiry: true, SessionExpiry: 100}, 99 * time.Second, true},
		{"shortened in DISCONNECT", 100, &control.Disconnect{HasSessionExpiry: true, SessionExpiry: 5}, 6 * time.Second, false},
		{"ended in DISCONNECT", 100, &control.Disconnect{HasSessionExpiry: true}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, b *Broker) {
				c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: tt.connect})
				if c.ack.SessionPresent {
					t.Fatal("Session Present is set for a new session")
				}
				if tt.leave == nil {
					c.cut()
				} else {
					c.leave(*tt.leave)
				}
				time.Sleep(tt.away)
				synctest.Wait()
				if got := b.Session("c"); got != tt.present {
					t.Errorf("the broker has the session: %v, want %v", got, tt.present)
				}
				if c := back(t, b, "c"); c.ack.SessionPresent != tt.present {
					t.Errorf("Session Present is %v, want %v", c.ack.SessionPresent, tt.present)
				}
			})
		})
	}
}

func TestCleanStart_DiscardsSession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		p.publish("t", "lost", 1)
		if c = fresh(t, b, "c"); c.ack.SessionPresent {
			t.Error("Session Present is set after Clean Start")
		}
		p.publish("t", "not for it", 1)
		c.quiet()
	})
}

func TestSession_ZeroExpiryCannotBeRaised(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c"})
		c.send(control.AppendDisconnect(nil, &control.Disconnect{HasSessionExpiry: true, SessionExpiry: 5}))
		c.over(wire.ReasonProtocolError)
	})
}

func TestSession_MaxSessionExpiry(t *testing.T) {
	inBubble(t, Options{MaxSessionExpiry: 10}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 100})
		if !c.ack.HasSessionExpiry || c.ack.SessionExpiry != 10 {
			t.Errorf("CONNACK says %+v", c.ack)
		}
		c.cut()
		time.Sleep(11 * time.Second)
		if back(t, b, "c").ack.SessionPresent {
			t.Error("the session outlived MaxSessionExpiry")
		}
	})
}

func TestTakeover_KeepsSession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		old, p := fresh(t, b, "c"), fresh(t, b, "p")
		old.subscribe(1, "t")
		c := back(t, b, "c")
		old.over(wire.ReasonSessionTakenOver)
		if !c.ack.SessionPresent {
			t.Error("the session was not taken over")
		}
		p.publish("t", "1", 1)
		c.wantMessages("1")
		if s := b.Stats(); s.TakenOver != 1 || s.Connections != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestQueue_KeepsOrderOffline(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(2, "t/+")
		c.cut()
		for i, payload := range seq(1, 300) {
			p.publish("t/x", payload, byte(1+i%2))
		}
		p.publish("t/x", "QoS 0 is not kept", 0)
		synctest.Wait()
		c = back(t, b, "c")
		c.wantMessages(seq(1, 300)...)
	})
}

func TestQueue_FullQueueDropsNewest(t *testing.T) {
	for name, o := range map[string]Options{
		"messages": {MaxQueuedMessages: 3},
		"bytes":    {MaxQueuedBytes: 3 * len("t1")},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, o, func(t *testing.T, b *Broker) {
				p, c := fresh(t, b, "p"), fresh(t, b, "c")
				c.subscribe(1, "t")
				c.cut()
				for _, payload := range seq(1, 5) {
					p.publish("t", payload, 1)
				}
				if s := b.Stats(); s.DroppedQueueFull != 2 || s.Queued != 3 {
					t.Errorf("%+v", s)
				}
				c = back(t, b, "c")
				c.wantMessages("1", "2", "3")
				c.cut()
				for _, payload := range seq(6, 8) { // there is room again
					p.publish("t", payload, 1)
				}
				back(t, b, "c").wantMessages("6", "7", "8")
			})
		})
	}
}

func TestQueue_ExpiredMessagesFreeSpace(t *testing.T) {
	inBubble(t, Options{MaxQueuedMessages: 2}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		p.publish("t", "1", 1)
		p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 5, HasExpiry: true, MessageExpiry: 3})
		p.finished(1, 5)
		time.Sleep(4 * time.Second)
		p.publish("t", "2", 1)
		back(t, b, "c").wantMessages("1", "2")
		if s := b.Stats(); s.DroppedExpired != 1 || s.DroppedQueueFull != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSession_Limit(t *testing.T) {
	inBubble(t, Options{MaxSessions: 1}, func(t *testing.T, b *Broker) {
		fresh(t, b, "c").cut()
		c := open(t, b.Dial())
		c.connect(control.Connect{ClientID: "another"})
		if c.ack.Reason != wire.ReasonQuotaExceeded {
			t.Errorf("CONNACK has 0x%02X", c.ack.Reason)
		}
		back(t, b, "c")
	})
}

func TestConnect_Limit(t *testing.T) {
	inBubble(t, Options{MaxConnections: 1}, func(t *testing.T, b *Broker) {
		old := fresh(t, b, "c")
		c := open(t, b.Dial())
		c.connect(control.Connect{ClientID: "another"})
		if c.ack.Reason != wire.ReasonQuotaExceeded {
			t.Errorf("CONNACK has 0x%02X", c.ack.Reason)
		}
		back(t, b, "c") // takes over and is not one more
		old.over(wire.ReasonSessionTakenOver)
	})
}

func TestBroker_CutDisconnectAndDropSession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		if !b.Connected("c") || b.Connected("d") {
			t.Error("Connected is wrong")
		}
		if !b.Disconnect("c", 0x98) || b.Disconnect("d", 0x98) {
			t.Error("Disconnect is wrong")
		}
		c.over(0x98)
		c = back(t, b, "c")
		if !c.ack.SessionPresent || !b.Cut("c") || b.Cut("c") {
			t.Error("Cut is wrong")
		}
		c.over(0)
		c = back(t, b, "c")
		if !c.ack.SessionPresent || !b.DropSession("c") || b.DropSession("c") {
			t.Error("DropSession is wrong")
		}
		c.over(0)
		if back(t, b, "c").ack.SessionPresent {
			t.Error("the session survived DropSession")
		}
		if n := b.DropSessions(); n != 1 || b.Session("c") || b.Stats().Connections != 0 {
			t.Errorf("DropSessions returned %d, stats %+v", n, b.Stats())
		}
	})
}

func TestWaitFor_ReactsToEvents(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		go func() {
			time.Sleep(time.Minute)
			c.send(control.AppendDisconnect(nil, &control.Disconnect{}))
		}()
		if err := b.WaitFor(t.Context(), func() bool { return !b.Connected("c") }); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.WaitFor(ctx, func() bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		_ = b.Close()
		if err := b.WaitFor(t.Context(), func() bool { return false }); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
