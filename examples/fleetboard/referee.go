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

// referee compares the states on the board with the actual states of the devices.
type referee struct {
	s    *simulation
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu       sync.Mutex
	blind    time.Time     // when the backend's view was last untrusted
	longest  time.Duration // longest time a failed device was shown as online while the backend was connected
	who      string
	apart    time.Duration // the same while the backend was disconnected
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

// look measures how long devices that are offline have been shown as online.
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

// slack is added to the limits, because the machine may be busy.
const slack = 5 * time.Second

// broken returns the limits that were exceeded.
func (r *referee) broken() (wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range []struct {
		took, promised time.Duration
		who, when      string
	}{
		{r.longest, r.s.o.limit(), r.who, "while the backend was connected"},
		{r.apart, r.s.o.limit() + r.s.o.staleAfter, r.apartWho, "while the backend was disconnected"},
	} {
		if p.took > p.promised+slack {
			wrong = append(wrong, fmt.Sprintf("%s was shown as online for %.1f s after its end %s; the limit is %.1f s", p.who, p.took.Seconds(), p.when, p.promised.Seconds()))
		}
	}
	return wrong
}

// lastFaults ends all faults. Then it makes one device in eight fail: by a crash, without a link, or
// switched off. The devices publish no more readings, so that none is in flight during the check.
func (s *simulation) lastFaults() {
	s.faults.stop()
	for _, d := range s.devices {
		d.quiet.Store(true)
	}
	s.faults.mendBackend(true)
	s.eachDevice(func(d *device) {
		for range 200 { // the client of a crashed device may not have ended yet
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

// timeout is the time that the board may take in addition to the limits.
const timeout = 20 * time.Second

// settle waits until the board has been correct for a second, and returns nil. After a timeout, it
// returns the differences.
func (s *simulation) settle(ctx context.Context) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, s.o.limit()+s.o.staleAfter+timeout)
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

// differences returns the differences between the board and the actual states.
func (s *simulation) differences() (wrong []string) {
	shown, handled := s.backend.board.states(), s.backend.board.counted()
	if !s.backend.board.linkState().Trusted {
		wrong = append(wrong, "the backend is disconnected, or has not received all statuses")
	}
	for _, d := range s.devices {
		is, _ := d.truth()
		if shown[d.name] != is {
			wrong = append(wrong, fmt.Sprintf("%s is %v, but is shown as %v", d.name, is, shown[d.name]))
		}
		if !s.place.own {
			continue // another broker may limit the messages that it keeps for the backend
		}
		// A pending reading may have been handled, if its acknowledgement was lost.
		st := d.flash.Stats()
		if n := handled[d.name]; n < st.Acked || n > st.Acked+st.Pending {
			wrong = append(wrong, fmt.Sprintf("%s: %d readings were acknowledged and %d are pending, but %d were handled", d.name, st.Acked, st.Pending, n))
		}
	}
	for name := range shown {
		if s.device(name) == nil {
			wrong = append(wrong, fmt.Sprintf("%q is shown, but does not exist", name))
		}
	}
	return wrong
}

// summary describes the run and the errors of the check.
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
	line("readings", "accepted %d, acknowledged %d, pending %d, dropped %d; handled %d, duplicates suppressed %d", accepted, acked, pending, dropped, handled, cs.Duplicates)
	line("latency", "median %v, 99th percentile %v  (outages included)", time.Duration(t.P50)*time.Microsecond, time.Duration(t.P99)*time.Microsecond)
	line("reconnects", "devices %d, backend %d", t.Reconnects, max(cs.Connections, 1)-1)
	counts := s.faults.counts()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", what, counts[what]))
	}
	line("faults", "%s", strings.Join(all, ", "))
	s.referee.mu.Lock()
	line("shown online after its end", "for at most %.1f s %s; limit: %.1f s", s.referee.longest.Seconds(), s.referee.who, s.o.limit().Seconds())
	line("  backend disconnected", "for at most %.1f s %s; limit: %.1f s", s.referee.apart.Seconds(), s.referee.apartWho, (s.o.limit() + s.o.staleAfter).Seconds())
	s.referee.mu.Unlock()
	line("board", "online %d, offline %d, stale %d, unknown %d; messages of additional devices %d", t.Online, t.Offline, t.Stale, t.Unknown, refused)
	for i, w := range wrong {
		if i == 20 {
			line("wrong", "and %d more", len(wrong)-i)
			break
		}
		line("wrong", "%s", w)
	}
	return b.String()
}
