package mqtttest

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// The cases of "why was the will published, or not".
func TestWill_WhenPublished(t *testing.T) {
	const never = -1
	cut := func(_ *testing.T, _ *Broker, c *rawClient) { c.cut() }
	disconnect := func(d control.Disconnect) func(*testing.T, *Broker, *rawClient) {
		return func(_ *testing.T, _ *Broker, c *rawClient) { c.leave(d) }
	}
	violation := func(_ *testing.T, _ *Broker, c *rawClient) {
		c.put(wire.Publish{TopicAlias: 1}) // stands for no topic yet
		c.over(wire.ReasonTopicAliasInvalid)
	}
	return_ := func(after time.Duration, p control.Connect) func(*testing.T, *Broker) {
		return func(t *testing.T, b *Broker) {
			time.Sleep(after)
			p.ClientID = "c"
			join(t, b, p)
		}
	}
	takeover := func(p control.Connect, present bool) func(*testing.T, *Broker, *rawClient) {
		return func(t *testing.T, b *Broker, c *rawClient) {
			p.ClientID = "c"
			if join(t, b, p).ack.SessionPresent != present {
				t.Errorf("Session Present is %v", !present)
			}
			c.over(wire.ReasonSessionTakenOver)
		}
	}
	for _, tt := range []struct {
		name          string
		delay, expiry uint32
		end           func(*testing.T, *Broker, *rawClient)
		then          func(*testing.T, *Broker)
		after         float64 // seconds
	}{
		{"cut, no delay", 0, 60, cut, nil, 0},
		{"cut, delay", 3, 60, cut, nil, 3},
		{"cut, delay longer than the session", 30, 10, cut, nil, 10},
		{"cut, delay, session never expires", 30, NeverExpires, cut, nil, 30},
		{"cut, delay, session ends at once", 30, 0, cut, nil, 0},
		{"DISCONNECT 0x00", 0, 60, disconnect(control.Disconnect{}), nil, never},
		{"DISCONNECT 0x00 with delay", 3, 60, disconnect(control.Disconnect{}), nil, never},
		{"DISCONNECT 0x04", 0, 60, disconnect(control.Disconnect{Reason: 4}), nil, 0},
		{"DISCONNECT 0x04 with delay", 3, 60, disconnect(control.Disconnect{Reason: 4}), nil, 3},
		{"DISCONNECT 0x04 as notice of the session's end", 100, 7, disconnect(control.Disconnect{Reason: 4}), nil, 7},
		{"DISCONNECT 0x04 that ends the session", 100, 60, disconnect(control.Disconnect{Reason: 4, HasSessionExpiry: true}), nil, 0},
		{"DISCONNECT with an error", 0, 60, disconnect(control.Disconnect{Reason: 0x80}), nil, 0},
		{"protocol error", 0, 60, violation, nil, 0},
		{"protocol error with delay", 5, 300, violation, nil, 5},
		{"the broker cuts", 2, 60, func(_ *testing.T, b *Broker, _ *rawClient) { b.Cut("c") }, nil, 2},
		{"the broker disconnects", 0, 60, func(_ *testing.T, b *Broker, _ *rawClient) { b.Disconnect("c", 0x98) }, nil, 0},
		{"the broker loses the session", 3, 60, func(_ *testing.T, b *Broker, _ *rawClient) { b.DropSession("c") }, nil, never},

		{"back in time", 10, 300, cut, return_(9*time.Second, control.Connect{SessionExpiry: 300}), never},
		{"back too late", 10, 300, cut, return_(11*time.Second, control.Connect{SessionExpiry: 300}), 10},
		{"back in time with Clean Start", 10, 300, cut, return_(4*time.Second, control.Connect{CleanStart: true, SessionExpiry: 300}), 4},

		{"taken over, no delay", 0, 60, takeover(control.Connect{SessionExpiry: 60}, true), nil, 0},
		{"taken over, delay", 3, 60, takeover(control.Connect{SessionExpiry: 60}, true), nil, never},
		{"taken over with Clean Start, delay", 3, 60, takeover(control.Connect{CleanStart: true, SessionExpiry: 60}, false), nil, 0},
		{"taken over, session expiry 0, delay", 3, 0, takeover(control.Connect{SessionExpiry: 60}, false), nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, b *Broker) {
				w := fresh(t, b, "w")
				w.subscribe(1, "gone/+")
				c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: tt.expiry,
					Will: &control.Will{Topic: "gone/c", QoS: 1, Delay: tt.delay, Payload: []byte("offline")}})
				start := time.Now()
				tt.end(t, b, c)
				if tt.then != nil {
					tt.then(t, b)
				}
				if tt.after == never {
					time.Sleep(time.Hour)
					w.quiet()
					return
				}
				synctest.Wait()
				if m := w.receive(); string(m.Payload) != "offline" {
					t.Errorf("got %+v", m)
				}
				// Wills that were due before the client came back were published then.
				if took := time.Since(start).Seconds(); took != tt.after && tt.name != "back too late" {
					t.Errorf("the will came after %v s, want %v", took, tt.after)
				}
				time.Sleep(time.Hour)
				w.quiet() // once
			})
		})
	}
}

func TestKeepAlive_EndsConnectionAfterOneAndAHalfTimes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(0, "gone")
		c := join(t, b, control.Connect{ClientID: "c", KeepAlive: 10, SessionExpiry: 60, Will: &control.Will{Topic: "gone"}})
		for range 5 {
			time.Sleep(14 * time.Second)
			c.send(control.AppendPingreq(nil))
			c.next(wire.PINGRESP)
		}
		start := time.Now()
		c.over(wire.ReasonKeepAliveTimeout)
		if took := time.Since(start); took != 15*time.Second {
			t.Errorf("the connection ended after %v", took)
		}
		w.message()
	})
}

func TestKeepAlive_OneSecond(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", KeepAlive: 1})
		for range 100 {
			time.Sleep(1400 * time.Millisecond)
			c.send(control.AppendPingreq(nil))
			c.next(wire.PINGRESP)
		}
	})
}

func TestKeepAlive_ServerKeepAlive(t *testing.T) {
	inBubble(t, Options{ServerKeepAlive: 4}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", KeepAlive: 100})
		if !c.ack.HasServerKeepAlive || c.ack.ServerKeepAlive != 4 {
			t.Errorf("CONNACK says %+v", c.ack)
		}
		start := time.Now()
		c.over(wire.ReasonKeepAliveTimeout)
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("the connection ended after %v", took)
		}
	})
}

func TestWill_KeepsPropertiesAndRetain(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(2, "status/c")
		want := wire.Publish{Topic: "status/c", QoS: 2, Payload: []byte("off"), PayloadFormat: 1, ContentType: "text/plain",
			ResponseTopic: "r", CorrelationData: []byte{1, 2}, HasExpiry: true, MessageExpiry: 30,
			User: []wire.UserProperty{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "a", Value: "3"}}}
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, Will: &control.Will{Topic: want.Topic, QoS: 2, Retain: true,
			Delay: 20, Payload: want.Payload, Properties: properties(want)}})
		c.cut()
		time.Sleep(25 * time.Second)
		got := w.receive()
		got.PacketID, want.MessageExpiry = 0, 30 // counts from publication, and the bubble delivers at once
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if p, ok := b.Retained("status/c"); !ok || string(p) != "off" {
			t.Errorf("retained is %q, %v", p, ok)
		}
	})
}

// properties are those that p encodes.
func properties(p wire.Publish) wire.Properties {
	p.Topic, p.QoS = "t", 0
	f := frameOf(wire.AppendPublish(nil, &p))
	v, err := wire.ParsePublish(f)
	if err != nil {
		panic(err)
	}
	return v.Properties
}

func frameOf(b []byte) wire.Frame {
	_, n := wire.Varint(b[1:])
	return wire.Frame{Header: b[0], Raw: b, Body: b[1+n:]}
}

func TestWill_IsQueuedForItsOwnSession(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, Will: &control.Will{Topic: "gone", QoS: 1, Payload: []byte("x")}})
		c.subscribe(1, "gone")
		c.cut()
		back(t, b, "c").wantMessages("x")
	})
}

func TestWill_CanceledTimerDoesNotFireForNextWill(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(1, "gone")
		p := control.Connect{ClientID: "c", SessionExpiry: 60, Will: &control.Will{Topic: "gone", QoS: 1, Delay: 10}}
		join(t, b, p).cut()
		time.Sleep(5 * time.Second)
		c := join(t, b, p)
		time.Sleep(time.Minute)
		w.quiet()
		c.cut()
		time.Sleep(9 * time.Second)
		w.quiet()
		time.Sleep(time.Second)
		w.receive()
	})
}
