package mqtttest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// lives runs the parts of a test against one broker after another on the same
// folder, each ended by Kill and, in a second run, by Close.
func lives(t *testing.T, o Options, parts ...func(t *testing.T, b *Broker)) {
	for _, kill := range []bool{true, false} {
		t.Run(map[bool]string{true: "killed", false: "closed"}[kill], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o.NoTCP, o.Dir = true, t.TempDir()
				for _, part := range parts {
					b, err := New(o)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = b.Close() }) // if the part fails
					part(t, b)
					synctest.Wait()
					if kill {
						b.Kill()
					}
					if err := b.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

func TestRestart_KeepsQueuesWindowsAndIdentifiers(t *testing.T) {
	var ids []uint16
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		ids = nil
		p := fresh(t, b, "p")
		c := join(t, b, control.Connect{ClientID: "c", CleanStart: true, SessionExpiry: 3600, ReceiveMaximum: 4})
		c.subscribeWith(control.Subscribe{SubscriptionID: 5, Subscriptions: []control.Subscription{{Filter: "t", QoS: 2}}})
		for i, payload := range seq(1, 8) {
			p.publish("t", payload, byte(1+i%2))
		}
		for range 4 {
			ids = append(ids, c.message().PacketID)
		}
		c.say(wire.PUBACK, ids[2], 0) // 3 is done, 5 comes
		c.message()
		c.say(wire.PUBREC, ids[3], 0) // 4 is released
		c.expect(wire.PUBREL, ids[3], 0)
	}, func(t *testing.T, b *Broker) {
		c := back(t, b, "c")
		if !c.ack.SessionPresent {
			t.Fatal("the session was lost")
		}
		one := c.message()
		if string(one.Payload) != "1" || one.PacketID != ids[0] || !one.Dup || !reflect.DeepEqual(one.SubscriptionIDs, []uint32{5}) {
			t.Errorf("got %+v", one)
		}
		two := c.message()
		if string(two.Payload) != "2" || two.PacketID != ids[1] || !two.Dup || two.QoS != 2 {
			t.Errorf("got %+v", two)
		}
		c.expect(wire.PUBREL, ids[3], 0)
		if five := c.message(); string(five.Payload) != "5" || !five.Dup {
			t.Errorf("got %+v", five)
		}
	}, func(t *testing.T, b *Broker) {
		c := back(t, b, "c")
		c.say(wire.PUBACK, ids[0], 0)
		c.message()
		c.message()
		c.expect(wire.PUBREL, ids[3], 0)
		c.say(wire.PUBCOMP, ids[3], 0)
		for _, want := range []string{"5", "6", "7", "8"} {
			if m := c.message(); string(m.Payload) != want {
				t.Errorf("got %+v, want %s", m, want)
			}
		}
	})
}

func TestRestart_DoesNotResendCompletedMessages(t *testing.T) {
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(2, "t")
		for i, payload := range seq(1, 200) {
			p.publish("t", payload, byte(1+i%2))
			c.receive()
		}
		c.quiet()
	}, func(t *testing.T, b *Broker) {
		c := back(t, b, "c")
		c.quiet()
		if s := b.Stats(); s.InFlight+s.Queued != 0 {
			t.Errorf("%+v", s)
		}
		fresh(t, b, "p").publish("t", "the subscription is still there", 1)
		c.receive()
	})
}

func TestRestart_QoS2IsAcceptedOnce(t *testing.T) {
	m := wire.Publish{Topic: "t", QoS: 2, PacketID: 7, Payload: []byte("once")}
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(2, "t")
		p.put(m)
		p.expect(wire.PUBREC, 7, 0)
		p.publish("t", "done", 2) // and this exchange has ended
	}, func(t *testing.T, b *Broker) {
		p, c := back(t, b, "p"), back(t, b, "c")
		p.put(m)
		p.expect(wire.PUBREC, 7, 0)
		p.say(wire.PUBREL, 7, 0)
		p.expect(wire.PUBCOMP, 7, 0)
		p.say(wire.PUBREL, 1, 0)
		p.expect(wire.PUBCOMP, 1, wire.ReasonPacketIDNotFound)
		c.wantMessages("once", "done")
	})
}

func TestRestart_KeepsRetainedMessages(t *testing.T) {
	sent := wire.Publish{Topic: "s/1", Retain: true, QoS: 1, PacketID: 1, Payload: []byte("on"), HasExpiry: true, MessageExpiry: 100,
		ContentType: "x", User: []wire.UserProperty{{Key: "k", Value: "v"}}}
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		p := fresh(t, b, "p")
		p.retain("s/2", "gone", 1)
		p.retain("s/2", "", 1)
		p.put(sent)
		p.finished(1, 1)
		time.Sleep(10 * time.Second)
	}, func(t *testing.T, b *Broker) {
		time.Sleep(5 * time.Second)
	}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		c.subscribe(1, "s/#")
		got := c.receive()
		want := sent
		want.PacketID, want.MessageExpiry = got.PacketID, 85
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v", got)
		}
		c.quiet()
	})
}

func TestRestart_KeepsSubscriptions(t *testing.T) {
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		c.subscribe(1, "a", "$share/g/s")
		c.subscribeWith(control.Subscribe{SubscriptionID: 3, Subscriptions: []control.Subscription{
			{Filter: "n", QoS: 2, NoLocal: true}, {Filter: "r", QoS: 1, RetainAsPublished: true}}})
		c.send(control.AppendUnsubscribe(nil, &control.Unsubscribe{PacketID: 1, Filters: []string{"a"}}))
		c.next(wire.UNSUBACK)
	}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), back(t, b, "c")
		p.publish("a", "not any more", 1)
		c.publish("n", "own", 1)
		p.publish("s", "shared", 1)
		p.retain("r", "retain", 1)
		if m := c.receive(); string(m.Payload) != "shared" {
			t.Errorf("got %+v", m)
		}
		if m := c.receive(); !m.Retain || !reflect.DeepEqual(m.SubscriptionIDs, []uint32{3}) {
			t.Errorf("got %+v", m)
		}
		c.quiet()
	})
}

func TestRestart_PublishesDelayedWillInTime(t *testing.T) {
	start := time.Time{}
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(1, "gone")
		c := join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60,
			Will: &control.Will{Topic: "gone", QoS: 1, Delay: 20, Payload: []byte("delayed")}})
		start = time.Now()
		c.cut()
		time.Sleep(5 * time.Second)
	}, func(t *testing.T, b *Broker) {
		w := back(t, b, "w")
		w.quiet()
		if m := w.receive(); string(m.Payload) != "delayed" || time.Since(start) != 20*time.Second {
			t.Errorf("got %q after %v", m.Payload, time.Since(start))
		}
	}, func(t *testing.T, b *Broker) {
		w := back(t, b, "w")
		time.Sleep(time.Hour)
		w.quiet() // once
	})
}

func TestRestart_PublishesWillsOfConnectedClients(t *testing.T) {
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		w := fresh(t, b, "w")
		w.subscribe(1, "+")
		for _, c := range []struct {
			id            string
			expiry, delay uint32
		}{{"at once", 60, 0}, {"session of 0", 0, 30}, {"delayed", 60, 5}, {"returns", 60, 5}} {
			join(t, b, control.Connect{ClientID: c.id, SessionExpiry: c.expiry,
				Will: &control.Will{Topic: c.id, QoS: 1, Delay: c.delay, Payload: []byte(c.id)}})
		}
		join(t, b, control.Connect{ClientID: "clean end", Will: &control.Will{Topic: "x", QoS: 1}}).leave(control.Disconnect{})
	}, func(t *testing.T, b *Broker) {
		back(t, b, "returns")
		w := back(t, b, "w")
		w.wantMessages("at once", "session of 0")
		time.Sleep(6 * time.Second)
		w.wantMessages("delayed")
	})
}

func TestRestart_RemovesExpiredSessions(t *testing.T) {
	lives(t, Options{}, func(t *testing.T, b *Broker) {
		join(t, b, control.Connect{ClientID: "short", SessionExpiry: 5}).cut()
		join(t, b, control.Connect{ClientID: "long", SessionExpiry: 500}).cut()
		join(t, b, control.Connect{ClientID: "ever", SessionExpiry: NeverExpires}).cut()
		join(t, b, control.Connect{ClientID: "none"})
	}, func(t *testing.T, b *Broker) {
		time.Sleep(10 * time.Second) // stands in for the time between
	}, func(t *testing.T, b *Broker) {
		for id, want := range map[string]bool{"short": false, "long": true, "ever": true, "none": false} {
			if b.Session(id) != want {
				t.Errorf("%s: %v", id, !want)
			}
		}
	})
}

// The broker is killed after each event of a conversation in turn. Whatever
// was acknowledged must be there afterwards.
func TestJournal_KeepsAcknowledgedAfterEveryKill(t *testing.T) {
	for kill := range 12 {
		var acked int
		synctest.Test(t, func(t *testing.T) {
			o := Options{NoTCP: true, Dir: t.TempDir()}
			b, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			p, c := fresh(t, b, "p"), fresh(t, b, "c")
			c.subscribe(2, "t")
			c.cut()
			for i := range kill {
				p.publish("t", seq(1, 12)[i], byte(1+i%2))
				acked++
			}
			p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 99, Payload: []byte("perhaps")})
			b.Kill()
			b, err = New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			got := back(t, b, "c").take()
			if len(got) < acked || !slices.Equal(got[:acked], seq(1, acked)) {
				t.Errorf("after %d acknowledged messages: %v", acked, got)
			}
		})
	}
}

func TestJournal_DropsTornTailReportsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{NoTCP: true, Dir: t.TempDir()}
		path := filepath.Join(o.Dir, journalName)
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		for _, payload := range seq(1, 3) {
			p.publish("t", payload, 1)
		}
		b.Kill()
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		try := func(image []byte) (messages []string, err error) {
			if err := os.WriteFile(path, image, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := New(o)
			if err != nil {
				return nil, err
			}
			defer b.Close()
			return back(t, b, "c").take(), nil
		}
		// Cut anywhere in the last transactions: a prefix of the messages is left.
		most := 4
		for n := len(whole); n > len(whole)-120; n -= 5 {
			got, err := try(whole[:n])
			if err != nil {
				t.Fatalf("cut at %d of %d: %v", n, len(whole), err)
			}
			if !slices.Equal(got, seq(1, len(got))) || len(got) > most {
				t.Fatalf("cut at %d of %d: %v", n, len(whole), got)
			}
			most = len(got)
		}
		if most == 3 {
			t.Error("no cut has cost a message: the test tests nothing")
		}
		last := bytes.Clone(whole)
		last[len(last)-1] ^= 1
		if got, err := try(last); err != nil || !slices.Equal(got, seq(1, 2)) {
			t.Errorf("a broken last transaction: %v, %v", got, err)
		}
		damaged := bytes.Clone(whole)
		damaged[len(journalHeader)+frameHeader] ^= 1
		if _, err := try(damaged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("damage in the middle: %v", err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, damaged) {
			t.Error("the damaged file was touched")
		}
		if _, err := try([]byte("something else altogether")); !errors.Is(err, ErrCorrupt) {
			t.Errorf("another file: %v", err)
		}
	})
}

func TestJournal_IsCompacted(t *testing.T) {
	dir := t.TempDir()
	inBubble(t, Options{Dir: dir}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		b.lock()
		b.log.slack = 1000
		b.unlock()
		payload := string(make([]byte, 500))
		for range 80 {
			p.publish("t", payload, 1)
			c.receive()
		}
		p.publish("t", "last", 1)
		c.message()
		info, err := os.Stat(filepath.Join(dir, journalName))
		if err != nil || info.Size() > 5000 {
			t.Errorf("the journal has %d bytes (%v)", info.Size(), err)
		}
	})
	inBubble(t, Options{Dir: dir}, func(t *testing.T, b *Broker) {
		back(t, b, "c").wantMessages("last")
	})
}

func TestJournal_FailingDiskStopsAcknowledgements(t *testing.T) {
	b, err := New(Options{NoTCP: true, Dir: t.TempDir(), Sync: true})
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, b.Dial())
	p.connect(control.Connect{ClientID: "p", SessionExpiry: 60})
	p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 1})
	p.expect(wire.PUBREC, 1, wire.ReasonNoMatchingSubscribers)
	_ = b.log.file.Close()
	p.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 2})
	p.over(0) // instead of PUBREC
	if err := b.Close(); err == nil {
		t.Error("Close says that all is well")
	}
}

func TestKill_LeavesTheFolder(t *testing.T) {
	o := Options{NoTCP: true, Dir: t.TempDir()}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Kill()
	before, err := os.ReadFile(filepath.Join(o.Dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	b.lock()
	b.newSession("too late")
	b.log.session(b.sessions["too late"])
	b.log.slack = -1 << 40 // compact at once
	b.unlock()
	b.wake()
	if after, _ := os.ReadFile(filepath.Join(o.Dir, journalName)); !bytes.Equal(before, after) {
		t.Error("the journal has changed")
	}
}

func TestRestart_RemovesMessagesExpiredInsideQueue(t *testing.T) {
	lives(t, Options{MaxQueuedMessages: 3}, func(t *testing.T, b *Broker) {
		p, c := fresh(t, b, "p"), fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		p.publish("t", "1", 1)
		p.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 5, HasExpiry: true, MessageExpiry: 3})
		p.finished(1, 5)
		p.publish("t", "2", 1)
		time.Sleep(4 * time.Second)
		p.publish("t", "3", 1)
	}, func(t *testing.T, b *Broker) {
		if s := b.Stats(); s.Queued != 3 {
			t.Errorf("%+v", s)
		}
		back(t, b, "c").wantMessages("1", "2", "3")
	})
}

func TestRestart_WillDelayContinuesWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{NoTCP: true, Dir: t.TempDir()}
		b := Start(t, With(o))
		fresh(t, b, "w").subscribe(1, "gone")
		join(t, b, control.Connect{ClientID: "c", SessionExpiry: 60, Will: &control.Will{Topic: "gone", QoS: 1, Delay: 20}})
		start := time.Now()
		_ = b.Close() // Start's Cleanup reports
		time.Sleep(15 * time.Second)
		b = Start(t, With(o))
		back(t, b, "w").receive()
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("the will came after %v", took)
		}
	})
}
