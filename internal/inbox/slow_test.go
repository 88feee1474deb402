package inbox_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/inbox"
)

func slowAfter(d time.Duration) func(*inbox.Config[*message]) {
	return func(cfg *inbox.Config[*message]) { cfg.SlowAfter = d }
}

// A hung handler is reported at doubling intervals, with the messages of its worker. Messages of
// other workers are handled meanwhile.
func TestSlow_ReportsRunningCall(t *testing.T) {
	inBubble(t, slowAfter(10*time.Second), func(r *rig) {
		r.server.connect()
		topics := r.apart(2)
		release := make(chan struct{})
		hung := &message{Number: 1, Topic: topics[0], QoS: 1, InHandler: func(context.Context, *inbox.Delivery[*message]) error { <-release; return nil }}
		r.send(hung, &message{Number: 2, Topic: topics[0], QoS: 1}, &message{Number: 3, Topic: topics[0], QoS: 0}, &message{Number: 4, Topic: topics[1], QoS: 1})
		r.wantFacts("handled 4")
		time.Sleep(10*time.Second - time.Millisecond)
		r.wantFacts()
		time.Sleep(time.Millisecond)
		r.wantFacts("slow 1 10s 2")
		if calls, longest := r.box.Slow(); calls != 1 || longest != 10*time.Second {
			t.Errorf("%d slow calls, the longest for %v", calls, longest)
		}
		time.Sleep(70 * time.Second)
		r.wantFacts("slow 1 20s 2", "slow 1 40s 2", "slow 1 1m20s 2")
		close(release)
		r.wantFacts("handled 1", "handled 2", "handled 3")
		if calls, longest := r.box.Slow(); calls != 0 || longest != 0 {
			t.Errorf("%d slow calls, the longest for %v, after the handler returned", calls, longest)
		}
		time.Sleep(time.Hour)
		r.wantFacts()
	})
}

// A call that begins while a longer one is being watched is reported in time.
func TestSlow_ReportsEachCall(t *testing.T) {
	inBubble(t, slowAfter(10*time.Second), func(r *rig) {
		r.server.connect()
		topics := r.apart(2)
		hang := func(d time.Duration) func(context.Context, *inbox.Delivery[*message]) error {
			return func(context.Context, *inbox.Delivery[*message]) error { time.Sleep(d); return nil }
		}
		r.send(&message{Number: 1, Topic: topics[0], QoS: 1, InHandler: hang(50 * time.Second)})
		time.Sleep(45 * time.Second)
		r.wantFacts("slow 1 10s 0", "slow 1 20s 0", "slow 1 40s 0")
		r.send(&message{Number: 2, Topic: topics[1], QoS: 1, InHandler: hang(15 * time.Second)})
		time.Sleep(20 * time.Second)
		r.wantFacts("handled 1", "slow 2 10s 0", "handled 2")
		time.Sleep(time.Hour) // the timer is stopped
		r.send(&message{Number: 3, Topic: topics[0], QoS: 1, InHandler: hang(15 * time.Second)})
		time.Sleep(20 * time.Second)
		r.wantFacts("slow 3 10s 0", "handled 3")
	})
}

// Many short calls are not reported, and neither is a call that ended with runtime.Goexit.
func TestSlow_IgnoresShortCalls(t *testing.T) {
	inBubble(t, slowAfter(10*time.Second), func(r *rig) {
		r.server.connect()
		for i := range 20 {
			r.send(&message{Number: i, Topic: "t", QoS: 1, InHandler: func(context.Context, *inbox.Delivery[*message]) error { time.Sleep(9 * time.Second); return nil }})
		}
		time.Sleep(181 * time.Second)
		synctest.Wait()
		if got := r.facts.take(); len(got) != 20 {
			t.Errorf("got %q, want 20 handled messages", got)
		}
		first := true
		r.send(&message{Number: 100, Topic: "t", QoS: 1, InHandler: func(context.Context, *inbox.Delivery[*message]) error {
			if first {
				first = false
				runtime.Goexit()
			}
			return nil
		}})
		time.Sleep(time.Hour)
		if got := r.facts.take(); len(got) != 2 || got[1] != "handled 100" {
			t.Errorf("got %q, want a failure and a handled message", got)
		}
	})
}

func TestSlow_Disabled(t *testing.T) {
	inBubble(t, slowAfter(-1), func(r *rig) {
		r.server.connect()
		r.send(&message{Number: 1, Topic: "t", QoS: 1, InHandler: func(context.Context, *inbox.Delivery[*message]) error { time.Sleep(time.Hour); return nil }})
		time.Sleep(2 * time.Hour)
		r.wantFacts("handled 1")
	})
}

// The reports continue while Stop waits for the handler.
func TestSlow_ReportsDuringStop(t *testing.T) {
	inBubble(t, slowAfter(10*time.Second), func(r *rig) {
		r.server.connect()
		r.send(&message{Number: 1, Topic: "t", QoS: 1, InHandler: func(context.Context, *inbox.Delivery[*message]) error { time.Sleep(15 * time.Second); return nil }})
		synctest.Wait()
		r.stop(time.Minute)
		r.wantFacts("slow 1 10s 0", "handled 1")
	})
}
