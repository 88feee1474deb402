package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
)

// handlerFaults are the ways in which a handler fails, by the time since the start and by chance.
var handlerFaults = map[string]func(since time.Duration, rnd *rand.Rand) error{
	"for 10 s": func(since time.Duration, _ *rand.Rand) error {
		if since < 10*time.Second {
			return errors.New("the database is away")
		}
		return nil
	},
	"10 % of the time": func(_ time.Duration, rnd *rand.Rand) error {
		if rnd.IntN(10) == 0 {
			return errors.New("deadlock")
		}
		return nil
	},
	"by panic": func(_ time.Duration, rnd *rand.Rand) error {
		if rnd.IntN(10) == 0 {
			panic("no")
		}
		return nil
	},
	"by Goexit": func(_ time.Duration, rnd *rand.Rand) error {
		if rnd.IntN(10) == 0 {
			runtime.Goexit()
		}
		return nil
	},
	"by a hang that outlives the connection": func(_ time.Duration, rnd *rand.Rand) error {
		if rnd.IntN(100) == 0 {
			time.Sleep(3 * time.Minute)
		}
		return nil
	},
}

// ledger is the database of a backend: what handlers did, across processes.
type ledger struct {
	mu      sync.Mutex
	process int                 // the one that runs; what others do is not seen
	handled map[string][]string // payloads, by topic
	count   int
	keys    map[string]bool // of messages, in the same transaction as their effect
}

// add takes the effect of a message, unless the process is dead.
func (l *ledger) add(process int, m *client.Message) (count int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.process != process {
		return 0, false
	}
	l.handled[m.Topic] = append(l.handled[m.Topic], string(m.Payload))
	l.keys[m.Claim.Key] = true
	l.count++
	return l.count, true
}

// check compares the ledger with what was published, and returns how many effects were repeated.
func (l *ledger) check(t *testing.T) (repeated int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range faultyTopics {
		var want, got []string
		for n := i; n < faultyMessages; n += faultyTopics {
			want = append(want, fmt.Sprint(n))
		}
		for _, p := range l.handled[fmt.Sprint("orders/", i)] {
			if slices.Contains(got, p) {
				repeated++
				continue
			}
			got = append(got, p)
		}
		if !slices.Equal(got, want) {
			t.Errorf("orders/%d: handled %v, want %v", i, got, want)
		}
	}
	return repeated
}

// inLedger is a cache whose keys are committed with the effect, by the handler.
type inLedger struct {
	*dedupe.Memory
	ledger *ledger
}

func (c *inLedger) Begin(ctx context.Context, key, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	c.ledger.mu.Lock()
	known := c.ledger.keys[key]
	c.ledger.mu.Unlock()
	if known {
		return dedupe.Claim{}, dedupe.Duplicate, nil
	}
	return c.Memory.Begin(ctx, key, owner)
}

const (
	faultyMessages = 400
	faultyTopics   = 20
)

// faulty is a process of a backend whose handlers fail.
type faulty struct {
	ledger *ledger
	fails  func(since time.Duration, rnd *rand.Rand) error
	began  time.Time
	killAt int           // kill the process after the effect of this message; 0: never
	killed chan struct{} // closed when that has happened

	mu   sync.Mutex
	rnd  *rand.Rand
	disk *faultfs.FS
}

// start starts a process.
func (b *faulty) start(t *testing.T, broker *mqtttest.Broker, process int, transaction bool) (*client.Client, *mqtttest.Proxy) {
	proxy := mqtttest.NewPipeProxy(pipeTo(broker))
	t.Cleanup(func() { _ = proxy.Close() })
	cfg := testConfig("backend", &recorder{}, through(proxy))
	cfg.Dir, cfg.Store.Options.FS = "backend", b.disk
	if transaction {
		cfg.Receiving.Dedupe = &inLedger{dedupe.NewMemory(dedupe.Options{}), b.ledger}
	}
	c := mustNew(t, cfg)
	handle := func(_ context.Context, m *client.Message) error {
		time.Sleep(time.Millisecond)
		b.mu.Lock()
		rnd := rand.New(rand.NewPCG(b.rnd.Uint64(), 1))
		b.mu.Unlock()
		if err := b.fails(time.Since(b.began), rnd); err != nil {
			return err
		}
		count, alive := b.ledger.add(process, m)
		if !alive {
			return errors.New("the process is dead")
		}
		if count == b.killAt {
			b.ledger.mu.Lock()
			b.ledger.process = 0
			b.ledger.mu.Unlock()
			b.disk = b.disk.Killed()
			proxy.Blackhole(true)
			close(b.killed)
		}
		return nil
	}
	start(t, c)
	connect(t, c)
	if _, err := c.Subscribe(t.Context(), "orders/#", client.ExactlyOnce, client.HandlerFunc(handle)); err != nil {
		t.Fatal(err)
	}
	return c, proxy
}

// Handlers that fail in every way handle each message, once and in the order of its topic.
func TestHandler_Faults(t *testing.T) {
	for name, fails := range handlerFaults {
		for _, variant := range []string{"", ", killed", ", killed, effect and key in one transaction"} {
			t.Run(name+variant, func(t *testing.T) {
				inBubble(t, mqtttest.Options{}, func(t *testing.T, broker *mqtttest.Broker, _ *mqtttest.Proxy) {
					l := &ledger{process: 1, handled: map[string][]string{}, keys: map[string]bool{}}
					b := &faulty{ledger: l, fails: fails, began: time.Now(), killed: make(chan struct{}), disk: faultfs.New(), rnd: rand.New(rand.NewPCG(7, 7))}
					kills, transaction := variant != "", strings.Contains(variant, "transaction")
					if kills {
						b.killAt = faultyMessages / 2
					}
					c, proxy := b.start(t, broker, 1, transaction)
					stop := proxy.CutEvery(time.Minute, 2*time.Minute)
					publisher := mustStart(t, testConfig("publisher", &recorder{}, broker.Dial))
					for n := range faultyMessages {
						publish(t, publisher, fmt.Sprint("orders/", n%faultyTopics), fmt.Sprint(n), client.ExactlyOnce)
					}
					must(t, publisher.Drain(t.Context()))
					most := 0
					if kills {
						<-b.killed
						stop()
						l.mu.Lock()
						l.process = 2
						l.mu.Unlock()
						if !transaction {
							most = 8 // one in the hand of each worker
						}
						c, proxy = b.start(t, broker, 2, transaction)
						stop = proxy.CutEvery(time.Minute, 2*time.Minute)
					}
					for deadline := time.Now().Add(24 * time.Hour); time.Now().Before(deadline); time.Sleep(time.Second) {
						if s := broker.Stats(); s.Queued+s.InFlight == 0 {
							break
						}
					}
					stop()
					time.Sleep(10 * time.Minute)
					synctest.Wait()
					must(t, c.Close())
					if n := l.check(t); n > most {
						t.Errorf("%d messages were handled twice, want at most %d", n, most)
					}
				})
			})
		}
	}
}
