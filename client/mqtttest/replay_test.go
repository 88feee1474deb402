package mqtttest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// empty is a broker with state and nothing else.
func empty() *Broker {
	b := &Broker{sessions: make(map[string]*session), retained: retainedSet{byTopic: make(map[string]*retainedMessage)}}
	if err := b.opts.check(); err != nil {
		panic(err)
	}
	return b
}

// restored is what a journal says.
func restored(image []byte) (b *Broker, end int64, err error) {
	b = empty()
	end, err = readJournal(bytes.NewReader(image), int64(len(image)), newReplay(b).apply)
	return b, end, err
}

// image returns a journal that describes b.
func image(b *Broker) []byte {
	out := []byte(journalHeader)
	j := &journal{gen: 1 << 40}
	j.emit = func() {
		if len(j.tx) > 0 {
			out = appendFrame(out, j.tx)
			j.tx = j.tx[:0]
		}
	}
	b.log = j
	b.snapshot()
	b.log = nil
	return out
}

// picture describes everything of b that a journal keeps.
func picture(b *Broker) string {
	var s strings.Builder
	entry := func(e *entry) {
		fmt.Fprintf(&s, "%d %q %q %x QoS %d retain %v ids %v share %q expires %d\n", e.msg.id, e.msg.topic, e.msg.payload, []byte(e.msg.props),
			e.qos, e.retain, e.subIDs, e.share, unixMilli(e.msg.expires))
	}
	for _, id := range slices.Sorted(maps.Keys(b.sessions)) {
		c := b.sessions[id]
		fmt.Fprintf(&s, "session %d %q expiry %d lost %d\n", c.id, id, c.expiry, unixMilli(c.lostAt))
		if w := c.will; w != nil {
			fmt.Fprintf(&s, " will %q %q %x %d %v %d\n", w.topic, w.payload, []byte(w.properties), w.qos, w.retain, w.delay)
		}
		for _, f := range slices.Sorted(maps.Keys(c.subs)) {
			sub := c.subs[f]
			fmt.Fprintf(&s, " sub %q %d %v %v %v\n", f, sub.qos, sub.noLocal, sub.asPublished, sub.ids)
		}
		if !c.keeps {
			continue
		}
		fmt.Fprintf(&s, " inbound %v\n", slices.Sorted(maps.Keys(c.inbound)))
		for f := c.flights.first; f != nil; f = f.next {
			fmt.Fprintf(&s, " flight %d %v ", f.id, f.released)
			entry(&f.entry)
		}
		for i := range c.queue.n {
			if e := c.queue.at(i); c.durable(e) {
				fmt.Fprint(&s, " queued ")
				entry(e)
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(b.retained.byTopic)) {
		m := b.retained.get(topic)
		fmt.Fprintf(&s, "retained %d %q %q %x %d %v\n", m.id, topic, m.payload, []byte(m.props), m.qos, m.retain)
	}
	return s.String()
}

// Clients do at random what clients do; at any time the journal must describe
// exactly the broker that wrote it.
func TestJournal_MatchesState(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			b := Start(t, With(Options{NoTCP: true, Dir: dir, MaxQueuedMessages: 20}))
			b.lock()
			b.log.slack = int64(seed) * 500 // some runs compact all the time
			b.unlock()
			r := rand.New(rand.NewPCG(seed, 0))
			clients := make([]*rawClient, 4)
			for range 40 {
				for range 10 {
					i := r.IntN(len(clients))
					clients[i] = disturb(t, b, r, i, clients[i])
				}
				synctest.Wait()
				b.wake()
				journal, err := os.ReadFile(filepath.Join(dir, journalName))
				if err != nil {
					t.Fatal(err)
				}
				again, end, err := restored(journal)
				if err != nil || end != int64(len(journal)) {
					t.Fatalf("seed %d: read to %d of %d: %v", seed, end, len(journal), err)
				}
				b.lock()
				want := picture(b)
				b.unlock()
				if got := picture(again); got != want {
					t.Fatalf("seed %d: the journal says\n%s\nand the broker is\n%s", seed, got, want)
				}
			}
		})
	}
}

// disturb does one thing at random as client number i and returns the client,
// or nil if it is away.
func disturb(t *testing.T, b *Broker, r *rand.Rand, i int, c *rawClient) *rawClient {
	id := fmt.Sprint("c", i)
	if c != nil && !b.Connected(id) { // a packet identifier collided, or the like
		c.cut()
		c = nil
	}
	if c == nil {
		p := control.Connect{ClientID: id, CleanStart: r.IntN(6) == 0, SessionExpiry: []uint32{0, 60, 600, NeverExpires}[r.IntN(4)],
			ReceiveMaximum: uint16(r.IntN(4))}
		if r.IntN(2) == 0 {
			p.Will = &control.Will{Topic: "t/" + id, QoS: byte(r.IntN(3)), Retain: r.IntN(2) == 0, Delay: uint32(r.IntN(3)) * 10, Payload: []byte("will")}
		}
		return join(t, b, p)
	}
	topic := fmt.Sprint("t/c", r.IntN(4))
	switch r.IntN(12) {
	case 0:
		c.cut()
		return nil
	case 1:
		c.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: byte(r.IntN(2)) * 4}))
		c.cut()
		return nil
	case 2:
		s := control.Subscribe{PacketID: 1, SubscriptionID: uint32(r.IntN(3)), Subscriptions: []control.Subscription{
			{Filter: []string{topic, "t/+", "$share/g/t/#"}[r.IntN(3)], QoS: byte(r.IntN(3)), RetainAsPublished: r.IntN(2) == 0}}}
		c.send(control.AppendSubscribe(nil, &s))
	case 3:
		c.send(control.AppendUnsubscribe(nil, &control.Unsubscribe{PacketID: 1, Filters: []string{topic, "t/+"}}))
	case 4, 5, 6:
		p := wire.Publish{Topic: topic, QoS: byte(r.IntN(3)), Retain: r.IntN(4) == 0, PacketID: uint16(1 + r.IntN(5)), Payload: []byte(fmt.Sprint(r.IntN(3)))}
		if r.IntN(4) == 0 {
			p.HasExpiry, p.MessageExpiry = true, uint32(r.IntN(20))
		}
		if r.IntN(4) == 0 {
			p.Payload = nil
		}
		c.put(p)
	case 7:
		c.say(wire.PUBREL, uint16(1+r.IntN(5)), 0)
	default:
		for synctest.Wait(); len(c.got) > 0; {
			f, ok := <-c.got
			if !ok {
				break
			}
			acknowledge(c, f)
		}
	}
	synctest.Wait()
	return c
}

func acknowledge(c *rawClient, f wire.Frame) {
	switch f.Type() {
	case wire.PUBLISH:
		if v, _ := wire.ParsePublish(f); v.QoS == 1 {
			c.say(wire.PUBACK, v.PacketID, 0)
		} else if v.QoS == 2 {
			c.say(wire.PUBREC, v.PacketID, 0)
		}
	case wire.PUBREL:
		a, _ := wire.ParseAck(f)
		c.say(wire.PUBCOMP, a.PacketID, 0)
	}
}

// FuzzReplay takes transactions whose checksum is right and whose contents are
// not: they are refused or make a state that can be written and read again.
func FuzzReplay(f *testing.F) {
	b := empty()
	s := b.newSession("c")
	s.expiry, s.keeps = 60, true
	s.will = &will{topic: "w", qos: 1, delay: 5}
	s.inbound[3] = struct{}{}
	m := &message{id: 1, topic: "t", payload: []byte("x"), qos: 2, props: wire.Properties{wire.PropUser, 0, 1, 'k', 0, 1, 'v'}}
	b.retained.set(m)
	s.flights.add(&flight{entry: entry{msg: m, qos: 2}, id: 9, released: true})
	s.queue.push(entry{msg: m, qos: 1, subIDs: []uint32{4}, share: "$share/g/t"})
	b.subscribe(s, control.Subscription{Filter: "t/#", QoS: 1, RetainHandling: 2}, 1, []uint32{4})
	_, _ = readJournal(bytes.NewReader(image(b)), int64(len(image(b))), func(tx []byte) error {
		f.Add(bytes.Clone(tx), []byte{recSent, 1, 10})
		f.Add(bytes.Clone(tx), []byte{recDropped, 1, 0, recCompleted, 1, 9, recEnded, 1})
		return nil
	})
	var all []byte
	_, _ = readJournal(bytes.NewReader(image(b)), int64(len(image(b))), func(tx []byte) error {
		all = append(all, tx...)
		return nil
	})
	f.Add(all, []byte{recSent, 1, 10, recPubrec, 1, 10, recInboundDone, 1, 3, recUnretained, 1, 't'})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		journal := appendFrame(appendFrame([]byte(journalHeader), one), two)
		b, end, err := restored(journal)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Fatal(err)
			}
			return
		}
		if end != int64(len(journal)) {
			t.Fatalf("read to %d of %d", end, len(journal))
		}
		again, _, err := restored(image(b))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if x, y := picture(b), picture(again); x != y {
			t.Fatalf("\n%s\nbecame\n%s", x, y)
		}
	})
}

// FuzzReadJournal takes any file at all.
func FuzzReadJournal(f *testing.F) {
	whole := appendFrame(appendFrame([]byte(journalHeader), []byte("one")), []byte("two"))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, image []byte) {
		again := []byte(journalHeader)
		end, err := readJournal(bytes.NewReader(image), int64(len(image)), func(tx []byte) error {
			again = appendFrame(again, tx)
			return nil
		})
		if end > int64(len(image)) || end < 0 {
			t.Fatalf("ended at %d of %d", end, len(image))
		}
		if err == nil && end > 0 && !bytes.Equal(again, image[:end]) {
			t.Fatal("the transactions that were read differ from the image")
		}
	})
}
