package client_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// send publishes a message with a priority.
func send(t testing.TB, c *client.Client, payload string, qos client.QoS, p client.Priority) *client.Delivery {
	t.Helper()
	d, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte(payload), QoS: qos, Priority: p})
	must(t, err)
	return d
}

// wantPublishes wants these payloads, with this DUP, and returns their packet
// identifiers.
func (p *peer) wantPublishes(dup bool, payloads ...string) (ids []uint16) {
	p.t.Helper()
	for _, want := range payloads {
		m := p.nextPublish()
		if string(m.Payload) != want || m.Dup != dup {
			p.t.Fatalf("%q came with DUP %v, want %q with %v", m.Payload, m.Dup, want, dup)
		}
		ids = append(ids, m.PacketID)
	}
	return ids
}

func TestPriority_UrgentOvertakesBacklog(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustStart(t, testConfig("c", &recorder{}, s.dial))
		var want []string
		for i := range 1000 {
			send(t, c, fmt.Sprint("n", i), client.AtLeastOnce, client.Normal)
			want = append(want, fmt.Sprint("n", i))
		}
		p := s.accept(control.Connack{ReceiveMaximum: 10})
		synctest.Wait() // the window is full
		for i := range 5 {
			send(t, c, fmt.Sprint("h", i), client.AtLeastOnce, client.High)
			send(t, c, fmt.Sprint("u", i), client.AtLeastOnce, client.Urgent)
		}
		want = slices.Insert(want, 10, "u0", "u1", "u2", "u3", "u4", "h0", "h1", "h2", "h3", "h4")
		for _, w := range want {
			p.ack(wire.PUBACK, p.wantPublishes(false, w)[0], 0, "")
		}
		must(t, c.Drain(t.Context()))
	})
}

// take collects the next n packets: the payloads of those that are PUBLISH, with
// "+" in front where DUP is set, and the identifiers of all by payload; "PUBREL"
// stands for that.
func (p *peer) take(n int) (payloads []string, ids map[string]uint16) {
	p.t.Helper()
	ids = map[string]uint16{}
	for range n {
		f := <-p.got
		if f.Type() == wire.PUBREL {
			a, err := wire.ParseAck(f)
			must(p.t, err)
			ids["PUBREL"] = a.PacketID
			continue
		}
		v, err := wire.ParsePublish(f)
		must(p.t, err)
		payload := string(v.Payload)
		ids[payload] = v.PacketID
		if v.Dup {
			payload = "+" + payload
		}
		payloads = append(payloads, payload)
	}
	return payloads, ids
}

// TestPriority_ResendsInOrderOfSending [MQTT-4.6.0-1], and then what is
// urgent.
func TestPriority_ResendsInOrderOfSending(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Connection.AckTimeout = time.Hour
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 6})
		connect(t, c)
		ids := map[string]uint16{}
		for _, m := range []string{"n0", "n1", "u0", "n2", "h0"} {
			send(t, c, m, client.ExactlyOnce, map[byte]client.Priority{'n': client.Normal, 'h': client.High, 'u': client.Urgent}[m[0]])
			ids[m] = p.wantPublishes(false, m)[0]
		}
		p.ack(wire.PUBREC, ids["n1"], 0, "")
		p.nextAck(wire.PUBREL)
		for range 3 { // a connection that ends before all messages are resent changes nothing
			p.close()
			p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 3})
			got, again := p.take(3)
			if want := "[+n0 +u0]"; fmt.Sprint(got) != want || again["PUBREL"] != ids["n1"] {
				t.Errorf("%v were resent with %v, want %v", got, again, want)
			}
		}
		p.close()
		synctest.Wait()
		send(t, c, "n3", client.ExactlyOnce, client.Normal)
		send(t, c, "u1", client.ExactlyOnce, client.Urgent)
		p = s.accept(control.Connack{SessionPresent: true, ReceiveMaximum: 6})
		got, again := p.take(6)
		if want := "[+n0 +u0 +n2 +h0 u1]"; fmt.Sprint(got) != want {
			t.Errorf("%v came, want %v", got, want)
		}
		for m, id := range ids {
			if m == "n1" {
				m = "PUBREL"
			}
			if again[m] != id {
				t.Errorf("%s was resent under %d, was %d", m, again[m], id)
			}
		}
		p.quiet()
		p.ack(wire.PUBCOMP, ids["n1"], 0, "")
		if got := p.wantPublishes(false, "n3"); got[0] == ids["n1"] {
			t.Error("an identifier was used again at once")
		}
	})
}

// Another process does not know the order of sending across priorities, but all
// identifiers, and which messages may have been sent.
func TestPriority_AfterRestart(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{ReceiveMaximum: 6})
		connect(t, c)
		ids := map[string]uint16{}
		for _, m := range []string{"n0", "u0", "h0", "n1", "u1", "h1"} {
			send(t, c, m, client.ExactlyOnce, map[byte]client.Priority{'n': client.Normal, 'h': client.High, 'u': client.Urgent}[m[0]])
			ids[m] = p.wantPublishes(false, m)[0]
		}
		p.ack(wire.PUBREC, ids["u0"], 0, "")
		p.nextAck(wire.PUBREL)
		for range 2 { // what the window keeps back
			send(t, c, "n2", client.ExactlyOnce, client.Normal)
			send(t, c, "h2", client.ExactlyOnce, client.High)
		}
		p.quiet()
		cfg.Store.Custom = store.Reopen() // the process is killed
		_ = c.Close()
		for len(p.got) > 0 {
			<-p.got
		}
		mustStart(t, cfg)
		p = s.accept(control.Connack{SessionPresent: true})
		got, again := p.take(10)
		if want := "[+u1 +h0 +h1 h2 h2 +n0 +n1 n2 n2]"; fmt.Sprint(got) != want {
			t.Errorf("%v came, want %v", got, want)
		}
		if ids["PUBREL"] = ids["u0"]; again["PUBREL"] != ids["u0"] {
			t.Errorf("PUBREL came for %d, want %d", again["PUBREL"], ids["u0"])
		}
		for _, m := range []string{"n0", "n1", "h0", "h1", "u1"} {
			if again[m] != ids[m] {
				t.Errorf("%s was resent under %d, was %d", m, again[m], ids[m])
			}
		}
	})
}

// TestPriority_ExhaustedIdentifiersBlockOnePriority: the identifiers of a
// priority are few.
func TestPriority_ExhaustedIdentifiersBlockOnePriority(t *testing.T) {
	store := &syncStore{Memory: persistence.NewMemory(persistence.Options{})}
	publishing(t, func(cfg *client.Config) { cfg.Store.Custom, cfg.Connection.AckTimeout = store, time.Hour }, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		lap := int(session.Lap(uint8(client.Urgent)))
		stuck := send(t, c, "stuck", client.AtLeastOnce, client.Urgent)
		stuckID := p.wantPublishes(false, "stuck")[0]
		for i := 1; i < lap; i++ {
			send(t, c, "x", client.AtLeastOnce, client.Urgent)
			p.ack(wire.PUBACK, p.nextPublish().PacketID, 0, "")
		}
		synctest.Wait()
		syncs := store.syncs
		for i := range 3 {
			send(t, c, fmt.Sprint("late", i), client.AtLeastOnce, client.Urgent)
		}
		p.quiet()
		for i, other := range []client.Priority{client.Normal, client.High, client.Normal, client.High} {
			send(t, c, fmt.Sprint("other", i), client.AtLeastOnce, other)
			p.ack(wire.PUBACK, p.wantPublishes(false, fmt.Sprint("other", i))[0], 0, "")
		}
		p.quiet()
		if store.syncs > syncs {
			t.Error("the store is synced for a message that waits")
		}
		p.ack(wire.PUBACK, stuckID, 0, "")
		wantState(t, stuck, client.Acked)
		if got := p.wantPublishes(false, "late0", "late1", "late2"); got[0] != stuckID {
			t.Errorf("the first went out under %d, want %d", got[0], stuckID)
		}
		if store.syncs == syncs {
			t.Error("an identifier was used again without a sync of its last user's end")
		}
	})
}

// markedStore knows which marks are durable.
type markedStore struct {
	persistence.Store
	mu     sync.Mutex
	marked [persistence.Priorities]uint64
	marks  int
	first  uint64 // the first mark
}

func (s *markedStore) SetSent(p persistence.Priority, n uint64) error {
	err := s.Store.SetSent(p, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks++; s.marks == 1 {
		s.first = n
	}
	s.marked[p] = max(s.marked[p], n)
	return err
}

func (s *markedStore) look(p client.Priority) (uint64, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marked[p], s.marks
}

func TestWatermark_IsPersistedBeforeSending(t *testing.T) {
	store := &markedStore{Store: persistence.NewMemory(persistence.Options{})}
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, s.dial)
		cfg.Store.Custom = store
		c := mustStart(t, cfg)
		const count = 5000
		for i := range count {
			send(t, c, "x", client.AtLeastOnce, client.Priority(i%3))
		}
		p := s.accept(control.Connack{ReceiveMaximum: 101})
		numbers := map[client.Priority]uint64{}
		for range count {
			m := p.nextPublish()
			prio := client.Normal
			if m.PacketID < 641 {
				prio = client.High
			} else if m.PacketID < 1025 {
				prio = client.Urgent
			}
			numbers[prio]++
			n := numbers[prio]
			if prio == client.Normal {
				n = 3*n - 2
			}
			if session.PacketID(uint8(prio), n) != m.PacketID {
				t.Fatalf("message %d of priority %d came under %d", n, prio, m.PacketID)
			}
			marked, _ := store.look(prio)
			if marked < n || marked > n+4096 {
				t.Fatalf("message %d of priority %d came when %d were marked", n, prio, marked)
			}
			p.ack(wire.PUBACK, m.PacketID, 0, "")
		}
		if _, marks := store.look(client.Normal); marks > 40 || store.first != 64 {
			t.Errorf("%d marks for %d messages, the first up to %d", marks, count, store.first)
		}
	})
}

// One who publishes one by one does not wait for a commit of its own each time,
// where marks harm nothing.
func TestWatermark_RunsAheadWithoutDrops(t *testing.T) {
	for name, change := range map[string]func(*client.Config){
		"nothing is dropped": nil,
		"drop oldest":        func(cfg *client.Config) { cfg.Store.WhenFull = client.DropOldest },
	} {
		t.Run(name, func(t *testing.T) {
			publishing(t, change, control.Connack{}, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
				ahead := 0
				for range 500 {
					publish(t, c, "t", "x", client.AtLeastOnce)
					m := p.nextPublish()
					if client.StoreOf(c).Sent(client.Normal) > client.StoreOf(c).LastSeq() {
						ahead++
					}
					p.ack(wire.PUBACK, m.PacketID, 0, "")
				}
				if (ahead > 400) != (change == nil) {
					t.Errorf("marks were ahead %d times of 500", ahead)
				}
			})
		})
	}
}

// TestPriority_ExactlyOnceDespiteCutsAndKills publishes at QoS 2, with more
// urgent messages than there are identifiers for them, and counts what comes.
func TestPriority_ExactlyOnceDespiteCutsAndKills(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, proxy *mqtttest.Proxy) {
		in := newInbox()
		receiver := mustStart(t, testConfig("r", &recorder{}, b.Dial))
		connect(t, receiver)
		must1(receiver.Subscribe(t.Context(), "#", client.ExactlyOnce, in))
		store := persistence.NewMemory(persistence.Options{})
		const lives, each = 4, 250
		for life := range lives {
			cfg := testConfig("c", &recorder{}, through(proxy))
			cfg.Store.Custom = store
			c := mustStart(t, cfg)
			for i := range each {
				for p := client.Normal; p <= client.Urgent; p++ {
					send(t, c, fmt.Sprint(p, "-", life*each+i), client.ExactlyOnce, p)
				}
				if i%100 == 99 {
					time.Sleep(5 * time.Millisecond)
					proxy.Cut()
				}
			}
			if life < lives-1 {
				next := store.Reopen() // from here on the process does nothing that lasts
				_ = c.Close()
				store = next
				continue
			}
			must(t, c.Drain(t.Context()))
		}
		next := map[string]int{}
		for _, payload := range func() (list []string) { in.await(t, 3*lives*each); return in.payloads() }() {
			p, n, _ := strings.Cut(payload, "-")
			if fmt.Sprint(next[p]) != n {
				t.Fatalf("message %s of priority %s came, want %d", n, p, next[p])
			}
			next[p]++
		}
	})
}
