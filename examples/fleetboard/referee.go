package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
)

// referee holds what the board shows against what the devices truly are.
type referee struct {
	s    *simulation
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu       sync.Mutex
	blind    time.Time     // when our own link was last not to be trusted
	longest  time.Duration // shown as online after its end, while our link stood
	who      string
	apart    time.Duration // the same while it did not
	apartWho string
}

func newReferee(s *simulation) *referee {
	r := &referee{s: s, quit: make(chan struct{}), blind: time.Now()}
	r.done.Go(func() {
		tick := time.NewTicker(tickEvery)
		defer tick.Stop()
		for {
			select {
			case <-r.quit:
				return
			case <-tick.C:
				r.look(time.Now())
			}
		}
	})
	return r
}

func (r *referee) stop() {
	r.once.Do(func() { close(r.quit) })
	r.done.Wait()
}

// look measures for how long devices have been shown as online that are not.
func (r *referee) look(now time.Time) {
	shown, trusted := r.s.backend.board.states(), r.s.backend.board.linkState().Trusted
	r.mu.Lock()
	defer r.mu.Unlock()
	if !trusted {
		r.blind = now
	}
	for _, d := range r.s.devices {
		is, since := d.truth()
		if is != presence.Offline || shown[d.name] != presence.Online {
			continue
		}
		if over := now.Sub(since); since.After(r.blind) {
			if over > r.longest {
				r.longest, r.who = over, d.name
			}
		} else if over > r.apart {
			r.apart, r.apartWho = over, d.name
		}
	}
}

// slack is what a loaded machine adds to a promise.
const slack = 5 * time.Second

// broken is which promises were not kept.
func (r *referee) broken() (wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range []struct {
		took, promised time.Duration
		who, when      string
	}{
		{r.longest, r.s.o.limit(), r.who, "while our link stood"},
		{r.apart, r.s.o.limit() + r.s.o.staleAfter, r.apartWho, "while our link was gone"},
	} {
		if p.took > p.promised+slack {
			wrong = append(wrong, fmt.Sprintf("%s was shown as online for %.1f s after its end %s; promised are %.1f s", p.who, p.took.Seconds(), p.when, p.promised.Seconds()))
		}
	}
	return wrong
}

// lastFaults ends the random faults, mends what is broken, and leaves one device
// in eight in a state that is not online, each in its own way. Nothing is measured
// any more: on a busy machine there would always be readings on their way.
func (s *simulation) lastFaults() {
	s.faults.stop()
	for _, d := range s.devices {
		d.quiet.Store(true)
	}
	s.faults.mendBackend(true)
	s.eachDevice(func(d *device) {
		for range 200 { // one that crashed may still be ending
			if d.recover(true) == nil {
				if t, _ := d.condition(); t == fine {
					return
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for i, d := range s.devices {
		switch i % 24 {
		case 5:
			d.suffer(crashed, 0)
		case 13:
			d.suffer(down, 0)
		case 21:
			d.suffer(off, 0)
		}
	}
}

// patience is how long the board may take beyond that.
const patience = 20 * time.Second

// settle waits until the board is right, or could have been for long, and says
// where it is wrong.
func (s *simulation) settle(ctx context.Context) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, s.o.limit()+s.o.staleAfter+patience)
	defer cancel()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for right := 0; right < 4; { // for a second
		select {
		case <-ctx.Done():
			return wrong
		case <-tick.C:
		}
		if wrong = s.differences(); len(wrong) == 0 {
			right++
		} else {
			right = 0
		}
	}
	return nil
}

// differences is where the board and the truth are not the same.
func (s *simulation) differences() (wrong []string) {
	shown, handled := s.backend.board.states(), s.backend.board.counted()
	if !s.backend.board.linkState().Trusted {
		wrong = append(wrong, "the backend has no link")
	}
	for _, d := range s.devices {
		is, _ := d.truth()
		if shown[d.name] != is {
			wrong = append(wrong, fmt.Sprintf("%s is %v and shown as %v", d.name, is, shown[d.name]))
		}
		if !s.place.ours {
			continue // another broker may have limits for what waits for us
		}
		// What is pending may have been handled: its acknowledgement was lost.
		st := d.flash.Stats()
		if n := handled[d.name]; n < st.Acked || n > st.Acked+st.Pending {
			wrong = append(wrong, fmt.Sprintf("%s: %d readings were acknowledged and %d are pending, but %d were handled", d.name, st.Acked, st.Pending, n))
		}
	}
	for name := range shown {
		if s.device(name) == nil {
			wrong = append(wrong, fmt.Sprintf("%q is shown and does not exist", name))
		}
	}
	return wrong
}

// summary says what happened, and where the board was found wrong.
func (s *simulation) summary(wrong []string) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-26s %s\n", name, fmt.Sprintf(format, args...))
	}
	var accepted, acked, pending, dropped uint64
	for _, d := range s.devices {
		st := d.flash.Stats()
		accepted, acked, pending, dropped = accepted+st.Accepted, acked+st.Acked, pending+st.Pending, dropped+st.Dropped
	}
	s.backend.board.mu.Lock()
	t, handled, refused := s.backend.board.last.Totals, s.backend.board.handledAll, s.backend.board.refused
	s.backend.board.mu.Unlock()
	cs := s.backend.c.Stats()
	line("ran for", "%v", time.Since(s.begun).Round(100*time.Millisecond))
	line("readings", "accepted %d, acknowledged %d, pending %d, dropped %d; handled %d, doubles held off %d", accepted, acked, pending, dropped, handled, cs.Duplicates)
	line("latency", "median %v, 99th percentile %v  (outages included)", time.Duration(t.P50)*time.Microsecond, time.Duration(t.P99)*time.Microsecond)
	line("reconnects", "devices %d, backend %d", t.Reconnects, max(cs.Connections, 1)-1)
	counts := s.faults.counts()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", what, counts[what]))
	}
	line("faults", "%s", strings.Join(all, ", "))
	s.referee.mu.Lock()
	line("shown online after its end", "for at most %.1f s %s; promised: %.1f s", s.referee.longest.Seconds(), s.referee.who, s.o.limit().Seconds())
	line("  while our link was gone", "for at most %.1f s %s; promised: %.1f s", s.referee.apart.Seconds(), s.referee.apartWho, (s.o.limit() + s.o.staleAfter).Seconds())
	s.referee.mu.Unlock()
	line("board", "online %d, offline %d, stale %d, unknown %d; words of too many devices %d", t.Online, t.Offline, t.Stale, t.Unknown, refused)
	for i, w := range wrong {
		if i == 20 {
			line("wrong", "and %d more", len(wrong)-i)
			break
		}
		line("wrong", "%s", w)
	}
	return b.String()
}
