package hostile

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// lasts is the duration of the mixed attack. 0: a short time.
var lasts = flag.Duration("hostile.for", 0, "how long the mixed attack lasts; with it all reconnects are made")

func TestMain(m *testing.M) {
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	leaktest.Main(m)
}

// Limits of the client under test. Together they bound the memory that a server can make it use.
// queue is the number of messages of MaximumPacketSize that may wait for handlers.
const (
	receiveMaximum = 16
	packetSize     = 64 << 10
	lanes          = 4
	qos0Queue      = 16
	queue          = receiveMaximum + lanes*qos0Queue
)

// heapBound is the maximum growth of the heap during an attack that sets no other bound. It covers
// the messages that wait for handlers, both encoded and decoded, and a few MiB for everything else.
const heapBound = 2*queue*packetSize + 16<<20

// bed is a client with all kinds of waiting callers, and its server.
type bed struct {
	t testing.TB
	s *server
	c *client.Client

	callers sync.WaitGroup
	mu      sync.Mutex
	sent    []*accepted

	baseline    uint64
	peak        uint64
	endSampling func()
}

// accepted is a message that Publish has accepted.
type accepted struct {
	payload string
	d       *client.Delivery
}

func newBed(t testing.TB, tcp bool, play func(*peer), edit func(*client.Config)) *bed {
	t.Helper()
	b := &bed{t: t}
	b.s = newServer(t, tcp, play)
	b.s.sample = b.sample
	cfg := client.Config{
		Servers:  []string{"mqtt://hostile"},
		ClientID: "victim",
		Connection: client.ConnectionConfig{
			Dial:              b.s.dial,
			MaximumPacketSize: packetSize,
			Backoff:           reliability.Backoff{Min: time.Millisecond, Max: time.Millisecond},
			ConnectTimeout:    100 * time.Millisecond,
			WriteTimeout:      100 * time.Millisecond,
			CloseTimeout:      100 * time.Millisecond,
			AckTimeout:        2 * time.Second,
		},
		Receiving: client.ReceivingConfig{
			ReceiveMaximum:    receiveMaximum,
			TopicAliasMaximum: 4,
			Concurrency:       lanes,
			QoS0QueueSize:     qos0Queue,
			HandlerBackoff:    reliability.Backoff{Min: 1, Max: 1},
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.c = c
	t.Cleanup(func() { // after a failure; otherwise both have already ended
		_ = c.Close()
		b.s.close()
		b.endSampling()
	})
	b.watch()
	if _, err := c.Subscribe(t.Context(), "#", client.ExactlyOnce, client.HandlerFunc(b.handle)); err != nil {
		t.Fatal(err)
	}
	return b
}

// handle holds a slow message while its connection is attacked, and accepts all other messages at
// once.
func (b *bed) handle(ctx context.Context, m *client.Message) error {
	n, _ := strconv.Atoi(m.ContentType)
	if over := b.s.over(n); over != nil {
		select {
		case <-over:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// start connects with one message of each QoS in flight.
func (b *bed) start() {
	b.t.Helper()
	b.publish("one", client.AtLeastOnce)
	b.publish("two", client.ExactlyOnce)
	if err := b.c.Start(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// publish publishes a message and makes a caller wait for the outcome.
func (b *bed) publish(payload string, qos client.QoS) {
	b.t.Helper()
	d, err := b.c.Publish(b.t.Context(), client.Message{Topic: "t", Payload: []byte(payload), QoS: qos})
	if err != nil {
		b.t.Errorf("Publish: %v", err)
		return
	}
	b.mu.Lock()
	b.sent = append(b.sent, &accepted{payload, d})
	b.mu.Unlock()
	b.callers.Go(func() { _, _ = d.Wait(context.Background()) })
}

// subscribe makes a caller wait for the server's answer.
func (b *bed) subscribe(filter string) {
	b.callers.Go(func() {
		_, _ = b.c.Subscribe(context.Background(), filter, client.AtLeastOnce, client.HandlerFunc(b.handle))
	})
}

// watch samples the heap after garbage collection, until endSampling. It uses at most a fifth of a
// core.
func (b *bed) watch() {
	b.baseline = heap()
	quit := make(chan struct{})
	var sampled sync.WaitGroup
	sampled.Go(func() {
		for {
			begin := time.Now()
			b.sample()
			select {
			case <-quit:
				return
			case <-time.After(max(50*time.Millisecond, 4*time.Since(begin))):
			}
		}
	})
	b.endSampling = sync.OnceFunc(func() {
		close(quit)
		sampled.Wait()
	})
}

// sample takes a sample of the heap. A possible new peak is sampled again, and the lowest value
// counts, because each sample includes what was allocated while it was taken.
func (b *bed) sample() {
	b.mu.Lock()
	peak := b.peak
	b.mu.Unlock()
	now := heap()
	for again := 0; now > peak && again < 4; again++ {
		now = min(now, heap())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.peak = max(b.peak, now)
}

// heap returns the size of the heap after a garbage collection.
func heap() uint64 {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

// within fails the test unless f returns in time.
func (b *bed) within(what string, f func()) {
	b.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(timeout):
		stacks := make([]byte, 1<<20)
		b.t.Fatalf("%s hangs:\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// recover makes the server behave correctly, and checks that all accepted messages are delivered
// and all callers have an answer.
func (b *bed) recover() {
	b.t.Helper()
	b.s.plays(b.s.behave)
	b.within("a caller", b.callers.Wait)
	b.within("Drain", func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := b.c.Drain(ctx); err != nil {
			b.t.Errorf("Drain: %v", err)
		}
	})
	for _, m := range b.sent {
		o := m.d.Outcome()
		if poison := (*client.PoisonError)(nil); errors.As(o.Err, &poison) {
			continue // the server has blamed the message five times in succession
		}
		if o.State != client.Acked || !b.s.took(m.payload) {
			b.t.Errorf("message %s ended as %v, %v; the server has it: %v", m.payload, o.State, o.Err, b.s.took(m.payload))
		}
	}
}

// giveUp drains without success while the attack continues, and checks that all callers have an
// answer.
func (b *bed) giveUp() {
	b.t.Helper()
	b.within("Drain", func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		var left *client.DrainError
		if err := b.c.Drain(ctx); err != nil && !errors.As(err, &left) {
			b.t.Errorf("Drain: %v", err)
		}
	})
	b.within("a caller", b.callers.Wait)
	for _, m := range b.sent {
		if o := m.d.Outcome(); o.State == client.Pending {
			b.t.Errorf("message %s has no outcome", m.payload)
		}
	}
}

// end checks the conditions that must hold after every attack.
func (b *bed) end(bound uint64) {
	b.t.Helper()
	b.within("Close", func() {
		if err := b.c.Close(); err != nil {
			b.t.Errorf("Close: %v", err)
		}
	})
	b.within("the server", b.s.close)
	b.endSampling()
	if grown := b.peak - min(b.baseline, b.peak); grown > bound {
		b.t.Errorf("the heap grew by %d KiB; the bound is %d KiB", grown>>10, bound>>10)
	}
	if left := leaks(); len(left) > 0 {
		b.t.Errorf("%d goroutines are left, such as:\n%s", len(left), left[0])
	}
	s := b.c.Stats().Store
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending || s.Accepted != uint64(len(b.sent)) {
		b.t.Errorf("the accounts do not close: %d were accepted, and the store says %+v", len(b.sent), s)
	}
}

// leaks waits for all goroutines to end, except those that run the tests.
func leaks() (left []string) {
	for end := time.Now().Add(timeout); ; {
		left = slices.DeleteFunc(leaktest.Wait(time.Millisecond), func(stack string) bool { return strings.Contains(stack, "testing.(*T).Run(") })
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}
