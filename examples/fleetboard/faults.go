package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// faults causes faults, at random and when a button of the page is pressed. One goroutine starts the
// devices, ends faults after their time, and selects random faults.
type faults struct {
	s      *simulation
	random atomic.Bool
	rnd    *rand.Rand // used by the goroutine only
	hands  sync.WaitGroup
	quit   chan struct{}
	once   sync.Once

	mu          sync.Mutex
	backendBack time.Time // when the backend's link is restored; zero: it works
	restarting  bool
	stopped     bool
	count       map[string]int
}

const (
	faultTick  = 50 * time.Millisecond
	perMinute  = 1.0              // random faults per device
	roundTime  = 60 * time.Second // one fault of the backend and one of the broker in this time
	byHandFor  = 20 * time.Second // duration of a fault that a button causes
	crashedFor = 3 * time.Second  // the same for a crash
	awayFor    = 8 * time.Second  // duration of a fault of the backend's link
)

// Errors of the buttons.
var (
	errNoDevice = errors.New("no such simulated device")
	errNoFault  = errors.New("no such fault; use cut, down, stall, slow, crash, off or mend")
	errBusy     = errors.New("the broker is already being restarted")
)

func newFaults(s *simulation) *faults {
	f := &faults{s: s, rnd: rand.New(rand.NewPCG(s.o.seed, 0)), quit: make(chan struct{}), count: map[string]int{}}
	f.random.Store(!s.o.calm)
	f.hands.Go(f.run)
	return f
}

func (f *faults) on() bool { return f.random.Load() }

func (f *faults) run() {
	tick := time.NewTicker(faultTick)
	defer tick.Stop()
	var due float64        // random faults
	waiting := f.s.devices // devices to start
	round := roundTime
	if f.s.o.runFor > 0 {
		round = min(round, f.s.o.runFor)
	}
	begun, link, restart := time.Now(), false, false
	for {
		select {
		case <-f.quit:
			return
		case <-tick.C:
		}
		n := min(len(waiting), 1+len(f.s.devices)/40) // starts all devices in two seconds
		for _, d := range waiting[:n] {
			f.log(d.recover(true))
		}
		waiting = waiting[n:]
		for _, d := range f.s.devices[:len(f.s.devices)-len(waiting)] {
			f.log(d.recover(false))
		}
		f.mendBackend(false)
		if !f.on() || len(waiting) > 0 {
			continue
		}
		for due += perMinute / 60 * float64(len(f.s.devices)) * faultTick.Seconds(); due >= 1; due-- {
			f.draw(f.s.devices[f.rnd.IntN(len(f.s.devices))])
		}
		switch at := time.Since(begun); {
		case at > round:
			begun, link, restart = time.Now(), false, false
		case at > round*3/10 && !link:
			link = true
			f.cutBackend(min(round/5, awayFor))
		case at > round*7/10 && !restart && f.s.place.own:
			restart = true
			f.log(f.restartBroker())
		}
	}
}

func (f *faults) log(err error) {
	if err != nil {
		f.note("", "Failed: "+err.Error())
	}
}

// draw causes a random fault of a device, unless the device has one.
func (f *faults) draw(d *device) {
	if t, _ := d.condition(); t != fine && t != slow {
		return
	}
	long := func(least, most time.Duration) time.Duration {
		return least + time.Duration(f.rnd.Int64N(int64(most-least)))
	}
	switch n := f.rnd.IntN(20); {
	case n < 8:
		f.cut(d)
	case n < 12:
		f.suffer(d, down, long(time.Second, 15*time.Second))
	case n < 14:
		f.suffer(d, stalled, long(time.Second, 12*time.Second))
	case n < 16:
		f.suffer(d, slow, long(5*time.Second, 15*time.Second))
	case n < 19:
		f.suffer(d, crashed, long(200*time.Millisecond, 8*time.Second))
	default:
		f.suffer(d, off, long(2*time.Second, 10*time.Second))
	}
}

func (f *faults) cut(d *device) {
	d.cut()
	f.note(d.name, "link cut once")
	f.add("links cut")
}

func (f *faults) suffer(d *device, t trouble, forHow time.Duration) {
	what := string(t)
	if forHow > 0 {
		what = fmt.Sprintf("%s for %.1f s", t, forHow.Seconds())
	}
	f.note(d.name, what)
	d.suffer(t, forHow)
	f.add(map[trouble]string{down: "links down", stalled: "links stalled", slow: "links slow", crashed: "devices crashed", off: "devices switched off"}[t])
}

// byHand causes the fault of a button.
func (f *faults) byHand(name, fault string) error {
	d := f.s.device(name)
	if d == nil {
		return errNoDevice
	}
	switch fault {
	case "cut":
		f.cut(d)
	case "down":
		f.suffer(d, down, byHandFor)
	case "stall":
		f.suffer(d, stalled, byHandFor)
	case "slow":
		f.suffer(d, slow, byHandFor)
	case "crash":
		f.suffer(d, crashed, crashedFor)
	case "off":
		f.suffer(d, off, 0)
	case "mend":
		f.note(name, "mended")
		return d.recover(true)
	default:
		return errNoFault
	}
	return nil
}

// cutBackend takes down the backend's link for the time forHow.
func (f *faults) cutBackend(forHow time.Duration) {
	f.mu.Lock()
	f.backendBack = time.Now().Add(forHow)
	f.mu.Unlock()
	l := f.s.backend.link
	l.Refuse(true)
	l.Cut()
	f.note("", fmt.Sprintf("Backend link down for %.1f s", forHow.Seconds()))
	f.add("backend cut off")
}

func (f *faults) mendBackend(force bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if force || !f.backendBack.IsZero() && time.Now().After(f.backendBack) {
		f.backendBack = time.Time{}
		f.s.backend.link.ClearFaults()
	}
}

// restartBroker starts a restart of the broker and does not wait for its end.
func (f *faults) restartBroker() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.s.place.own:
		return errNotOwn
	case f.restarting || f.stopped:
		return errBusy
	}
	f.restarting = true
	f.hands.Go(func() {
		f.note("", "Broker killed")
		if err := f.s.place.restart(); err != nil {
			f.log(err)
		} else {
			f.note("", "Broker started again")
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.restarting = false
	})
	f.count["broker restarts"]++
	return nil
}

func (f *faults) note(name, what string) { f.s.backend.board.did(name, what) }

func (f *faults) add(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[what]++
}

func (f *faults) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]int, len(f.count))
	for what, n := range f.count {
		all[what] = n
	}
	return all
}

// stop ends the goroutine and waits for a restart in progress. It does not end the present faults.
func (f *faults) stop() {
	f.once.Do(func() {
		f.mu.Lock()
		f.stopped = true
		f.mu.Unlock()
		close(f.quit)
	})
	f.hands.Wait()
}
