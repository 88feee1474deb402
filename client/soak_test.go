package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// soak is a publisher and a subscriber, a broker between them, and everything
// that goes wrong: links cut and torn, packets lost, crashes of the publisher,
// restarts of the subscriber, kills of the broker, and, where drops is set,
// lost sessions of the publisher, against which the subscriber deduplicates.
type soak struct {
	t      *testing.T
	random *rand.Rand
	drops  bool
	disk   bool // the clients keep folders
	dir    string

	broker    *mqtttest.Broker
	brokerMu  sync.Mutex
	links     [2]*mqtttest.Proxy     // the publisher's and the subscriber's
	stores    [2]*persistence.Memory // nil: in folders
	clients   [2]*client.Client
	cache     dedupe.Cache
	accepted  map[client.MessageID]bool
	mu        sync.Mutex
	handled   map[client.MessageID]int
	last      map[string]uint64
	disorders []string
}

func TestSoak(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := &soak{t: t, random: rand.New(rand.NewPCG(seed, 7)), drops: seed%2 == 1, disk: seed%3 == 2, dir: dir,
					accepted: map[client.MessageID]bool{}, handled: map[client.MessageID]int{}, last: map[string]uint64{}}
				s.run()
			})
		})
	}
}

func (s *soak) run() {
	s.startBroker()
	defer func() { _ = s.broker.Close() }()
	if s.drops {
		s.cache = dedupe.NewMemory(dedupe.Options{})
	}
	for who := range s.links {
		s.links[who] = mqtttest.NewPipeProxy(func(context.Context) (net.Conn, error) {
			s.brokerMu.Lock()
			defer s.brokerMu.Unlock()
			return s.broker.Dial(), nil
		})
		s.links[who].Seed(s.random.Uint64())
		defer s.links[who].Close()
		if !s.disk {
			s.stores[who] = persistence.NewMemory(persistence.Options{})
		}
		s.live(who)
	}
	connect(s.t, s.clients[1])
	synctest.Wait() // subscribed: from here on nothing may be missing
	for range 150 {
		s.step()
	}
	s.settle()
}

// live starts a client on what its store holds.
func (s *soak) live(who int) {
	cfg := testConfig(fmt.Sprint("client ", who), &recorder{}, through(s.links[who]))
	cfg.Publishing.Sequenced = true
	if s.disk {
		cfg.Dir = filepath.Join(s.dir, cfg.ClientID)
	} else {
		cfg.Store.Custom = s.stores[who]
	}
	cfg.Connection.Backoff = reliability.Backoff{Min: time.Millisecond, Max: 50 * time.Millisecond}
	cfg.Connection.AckTimeout, cfg.Connection.ConnectTimeout, cfg.Connection.WriteTimeout = time.Second, time.Second, time.Second
	if who == 1 {
		cfg.Receiving.Dedupe = s.cache
		cfg.Receiving.ReceiveMaximum = 10
	}
	c, err := client.New(cfg)
	must(s.t, err)
	if who == 1 {
		must1(c.Subscribe(s.t.Context(), "t/#", client.ExactlyOnce, client.HandlerFunc(s.handle)))
	}
	start(s.t, c)
	s.clients[who] = c
}

func (s *soak) handle(_ context.Context, m *client.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled[m.ID]++
	if m.Origin.Seq != s.last[m.Topic]+1 {
		s.disorders = append(s.disorders, fmt.Sprintf("%s: %d behind %d", m.Topic, m.Origin.Seq, s.last[m.Topic]))
	}
	s.last[m.Topic] = m.Origin.Seq
	return nil
}

func (s *soak) startBroker() {
	b, err := mqtttest.New(mqtttest.Options{NoTCP: true, Dir: filepath.Join(s.dir, "broker"), ReceiveMaximum: 15})
	must(s.t, err)
	s.broker = b
}

func (s *soak) step() {
	link := s.links[s.random.IntN(2)]
	direction := mqtttest.Direction(s.random.IntN(2))
	packets := []mqtttest.PacketType{mqtttest.PUBLISH, mqtttest.PUBREC, mqtttest.PUBREL, mqtttest.PUBCOMP, mqtttest.CONNACK, mqtttest.CONNECT}
	packet := packets[s.random.IntN(len(packets))]
	switch n := s.random.IntN(20); {
	case n < 9:
		for range s.random.IntN(20) {
			d, err := s.clients[0].Publish(s.t.Context(), client.Message{Topic: fmt.Sprint("t/", s.random.IntN(3)), QoS: client.ExactlyOnce})
			must(s.t, err)
			s.accepted[d.ID] = true
		}
	case n < 11:
		link.Cut()
	case n < 13:
		link.CutInside(direction, packet)
	case n < 15:
		link.Lose(direction, packet)
	case n < 16:
		link.CutAfter(direction, s.random.IntN(500))
	case n < 17: // the publisher crashes
		if !s.disk { // a folder in this process can only be left in order
			s.stores[0] = s.stores[0].Reopen()
		}
		_ = s.clients[0].Close()
		s.live(0)
	case n < 18: // the subscriber restarts
		must(s.t, s.clients[1].Close())
		if !s.disk {
			s.stores[1] = s.stores[1].Reopen()
		}
		s.live(1)
	case n < 19: // the broker is killed
		s.brokerMu.Lock()
		s.broker.Kill()
		s.startBroker()
		s.brokerMu.Unlock()
	case s.drops:
		s.broker.DropSession("client 0")
	}
	time.Sleep(time.Duration(s.random.IntN(20)) * time.Millisecond)
}

// settle ends all faults and draws up the accounts.
func (s *soak) settle() {
	for _, link := range s.links {
		link.ClearFaults()
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Hour)
	defer cancel()
	if err := s.clients[0].Drain(ctx); err != nil {
		s.t.Error(err)
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	must(s.t, s.clients[1].Close())
	for id := range s.accepted {
		if n := s.handled[id]; n != 1 {
			s.t.Errorf("message %v was handled %d times", id, n)
		}
	}
	if len(s.handled) != len(s.accepted) {
		s.t.Errorf("%d messages were accepted, %d came", len(s.accepted), len(s.handled))
	}
	if len(s.disorders) > 0 {
		s.t.Errorf("out of order: %v", s.disorders)
	}
	if st := s.clients[0].Stats().Store; st.Accepted != uint64(len(s.accepted)) || st.Acked != st.Accepted || st.Pending != 0 {
		s.t.Errorf("the accounts of %d messages: %+v", len(s.accepted), st)
	}
}
