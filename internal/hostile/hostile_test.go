package hostile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// TestMixedAttack runs all attacks on one client in random order, on consecutive connections, while
// the client publishes and subscribes.
func TestMixedAttack(t *testing.T) {
	duration := max(*lasts, 700*time.Millisecond)
	all := slices.Concat(malformed, steps, words, floods, silences)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	order := rand.New(rand.NewPCG(seed, 0))
	next := make(chan *attack)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case next <- &all[order.IntN(len(all))]:
			case <-done:
				return
			}
		}
	}()
	b := newBed(t, true, func(p *peer) {
		a := <-next
		// With a short AckTimeout, a connection that should stay up may still end.
		if err := a.on(p); err != nil && err != errSilent && a.due != stands {
			t.Errorf("%s: %v", a.name, err)
		}
	}, func(cfg *client.Config) { cfg.Connection.AckTimeout = 300 * time.Millisecond })
	b.start()
	tick := time.NewTicker(duration / 50)
	defer tick.Stop()
	for i := range 50 {
		<-tick.C
		b.publish(fmt.Sprint("message ", i), client.QoS(1+i%2))
		if i%10 == 0 {
			b.subscribe(fmt.Sprint("filter/", i))
		}
	}
	t.Logf("%d connections", b.s.connections())
	b.recover()
	close(done)
	b.end(64 << 20) // the largest bound of all attacks
}

// TestReconnects tests a server that accepts and closes connections, 10,000 times in succession.
func TestReconnects(t *testing.T) {
	connections := 300
	if *lasts > 0 {
		connections = 10_000
	}
	for _, tcp := range []bool{false, true} {
		enough := make(chan struct{})
		b := newBed(t, tcp, func(p *peer) {
			if p.n%3 > 0 { // otherwise it does not even answer
				p.accept(control.Connack{SessionPresent: p.n%2 > 0})
			}
			if p.n == connections {
				close(enough)
			}
		}, func(cfg *client.Config) { cfg.Connection.Backoff = reliability.Backoff{Min: 1, Max: 1} })
		b.start()
		b.subscribe("more")
		select {
		case <-enough:
		case <-time.After(time.Duration(connections) * 100 * time.Millisecond):
			t.Errorf("%d connections, and no more", b.s.connections())
		}
		b.recover()
		b.end(heapBound)
	}
}

// TestFatalRefusal checks that the client stops, and that all waiting callers get an error.
func TestFatalRefusal(t *testing.T) {
	b := newBed(t, true, func(p *peer) { p.early("\x20\x03\x00\x85\x00") }, nil)
	b.start()
	b.subscribe("more")
	b.within("a caller", b.callers.Wait)
	b.within("the end", func() { <-b.c.Done() })
	for _, m := range b.sent {
		if o := m.d.Outcome(); o.State != client.Abandoned {
			t.Errorf("message %s ended as %v, want abandoned", m.payload, o.State)
		}
	}
	if b.c.Err() == nil {
		t.Error("Err is nil after the client stopped")
	}
	b.end(heapBound)
}
