package persistence

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"

	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
)

// crashWorkload is a use of a log that begins with an empty folder.
type crashWorkload struct {
	name string
	o    Options
	run  func(*program) error

	moves bool // most runs must move messages
}

// crashWorkloads are the explored workloads. Each consists of steps of a program, which records the
// guarantees. Random numbers come from its generator.
var crashWorkloads = append([]crashWorkload{
	{name: "publish", o: small, run: mix{append: 9, sync: 1, restart: 1}.steps(25)},
	{name: "ack", o: small, run: mix{append: 5, done: 5, sync: 2, restart: 1}.steps(40)},
	{name: "release", o: small, run: mix{append: 4, release: 5, done: 2, sync: 4, restart: 1}.steps(40)},
	{name: "inbound", o: small, run: mix{append: 2, seen: 5, cleared: 4, sync: 4, restart: 1}.steps(40)},
	{name: "reset", o: small, run: mix{append: 3, release: 3, seen: 3, cleared: 1, sync: 3, reset: 2, restart: 1}.steps(40)},
	{name: "counters", o: small, run: mix{append: 1, stream: 6, done: 4, sync: 1, restart: 2}.steps(40)},
	{name: "rotation", o: small, run: mix{append: 4, stream: 4, done: 1, large: true, restart: 1}.steps(25)},
	{name: "removal", o: small, run: mix{append: 5, done: 5, large: true, restart: 1}.steps(50)},
	{name: "restarts", o: small, run: mix{append: 3, done: 2, seen: 1, sync: 1, restart: 2, kill: 3}.steps(25)},
	{name: "large restarts", o: small, run: mix{append: 4, done: 2, release: 1, sync: 1, restart: 2, kill: 2, large: true}.steps(25)},
	{name: "no filling", o: with(small, func(o *Options) { o.Files.PreallocateBytes = -1 }), run: mix{append: 5, stream: 2, done: 4, release: 1, seen: 1, sync: 2, restart: 1}.steps(40)},
	{name: "huge packets", o: small, run: mix{append: 4, done: 2, restart: 1, huge: true}.steps(12)},
	{name: "concurrent", o: small, run: concurrent},
	{name: "failing disk", o: small, run: worn.failing(4, 12)},
	{name: "failing disk, larger", o: small, run: worn.with(func(x *mix) { x.large = true }).failing(4, 12)},
	{name: "interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 6, stream: 2, done: 4, release: 1, seen: 1, reset: 1, sync: 1, restart: 1}.steps(40)},
	{name: "never", o: with(small, func(o *Options) { o.Sync = SyncNever }), run: mix{append: 6, stream: 2, done: 4, release: 1, seen: 1, sync: 1, restart: 1, kill: 1}.steps(40)},
	{name: "never, counters", o: with(small, func(o *Options) { o.Sync = SyncNever }), run: mix{append: 1, stream: 6, done: 4, sync: 1, restart: 1, kill: 2, large: true}.steps(40)},
	{name: "interval, counters", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 1, stream: 6, done: 4, sync: 1, restart: 1, kill: 2}.steps(40)},
	{name: "idle", o: small, run: mix{append: 5, stream: 1, done: 5, release: 3, seen: 2, cleared: 2, raise: 1, reset: 1, sync: 3, idle: 8, restart: 1, kill: 1}.steps(50)},
	{name: "idle, interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 5, stream: 1, done: 5, release: 3, seen: 2, cleared: 2, sync: 2, idle: 6, restart: 1}.steps(40)},
	{name: "idle, removal", o: small, run: mix{append: 5, done: 5, idle: 5, large: true, restart: 1}.steps(50)},
	{name: "never, larger segments", o: with(small, func(o *Options) { o.Sync, o.Files.SegmentBytes = SyncNever, 64<<10 }), run: mix{append: 10, done: 1, sync: 1, kill: 1, huge: true}.steps(12)},
}, append(outboxWorkloads, outageWorkloads...)...)

func with(o Options, change func(*Options)) Options {
	change(&o)
	return o
}

// mix contains the relative frequency of each step.
type mix struct {
	append, stream, done, release, seen, cleared, reset, sync, restart, kill int
	// dead ends a message as a dead letter. discard discards a dead letter. raise and lower set the
	// sent watermarks. clock sets the system clock forward; the next restart sets it back. postpone
	// defers a message.
	dead, discard, raise, lower, clock, postpone int
	idle                                         int // makes the idle write that the timer would make

	ranked   bool // messages have all priorities
	full     bool // outages are those of a full disk
	reopen   bool // the process is killed during outages, and the log is opened during them
	conflate bool // messages have keys
	large    bool // packets have a third of the size of a segment
	stuck    int  // number of oldest messages that stay pending
	huge     bool // packets have the size of several segments: more than an opening writes again
}

func (x mix) steps(n int) func(*program) error {
	return func(p *program) error {
		if err := p.open(); err != nil {
			return err
		}
		for range n {
			if err := x.step(p, p.actor(0)); err != nil {
				return err
			}
		}
		return p.close()
	}
}

func (x mix) step(p *program, a *actor) error {
	rnd := p.rnd
	if x.stuck > 0 && rnd.IntN(2) == 0 {
		p.settle()
	}
	if p.meddle != nil {
		p.meddle(p.l)
	}
	pick := rnd.IntN(x.append + x.stream + x.done + x.release + x.seen + x.cleared + x.reset + x.sync + x.restart + x.kill + x.dead + x.discard + x.raise + x.lower + x.clock + x.postpone + x.idle)
	is := func(weight int) bool {
		pick -= weight
		return pick < 0
	}
	live := len(a.live)
	switch {
	case is(x.append):
		return a.append(x.size(p), "", x.look(p))
	case is(x.stream):
		return a.append(x.size(p), string("abc"[rnd.IntN(3)]), x.look(p))
	case is(x.done):
		if i, ok := x.toEnd(p, live); ok {
			return a.done(i, Acked+ResultKind(rnd.IntN(4)))
		}
		return nil
	case is(x.dead):
		if i, ok := x.toEnd(p, live); ok {
			return a.done(i, DeadLettered)
		}
		return nil
	case is(x.discard):
		if len(a.deadLetters) == 0 {
			return nil
		}
		return a.discard(rnd.IntN(len(a.deadLetters)))
	case is(x.raise):
		if live == 0 {
			return nil
		}
		return a.raise(rnd.IntN(live))
	case is(x.lower):
		return a.lower(rnd.IntN(live + 1))
	case is(x.clock):
		p.l.mu.Lock()
		p.l.state.ledger.Clock.Offset += rnd.Int64N(3600_000)
		p.l.mu.Unlock()
		return nil
	case is(x.idle):
		writeIdle(p.l)
		return nil
	case is(x.postpone):
		if live == 0 {
			return nil
		}
		return a.postpone(rnd.IntN(live))
	case is(x.release):
		if live == 0 {
			return nil
		}
		return a.release(rnd.IntN(live))
	case is(x.seen):
		return a.see(uint16(1+rnd.IntN(6)), uint64(1+rnd.IntN(3))<<60)
	case is(x.cleared):
		return a.see(uint16(1+rnd.IntN(6)), 0)
	case is(x.reset):
		return a.reset()
	case is(x.sync):
		return a.sync()
	case is(x.kill):
		p.kill()
		return p.open()
	}
	if err := p.close(); err != nil {
		return err
	}
	return p.open()
}

// toEnd chooses the message to end, usually the oldest.
func (x mix) toEnd(p *program, live int) (i int, ok bool) {
	switch {
	case live <= x.stuck:
		return 0, false
	case p.rnd.IntN(3) == 0:
		return x.stuck + p.rnd.IntN(live-x.stuck), true
	}
	return x.stuck, true
}

func (x mix) look(p *program) (as looks) {
	if x.ranked {
		as.priority = Priority(p.rnd.IntN(Priorities))
	}
	if x.conflate {
		as.conflate = byte(p.rnd.IntN(4))
	}
	return as
}

func (x mix) size(p *program) int {
	if x.huge && p.rnd.IntN(2) == 0 {
		return 17_000 + p.rnd.IntN(1000)
	}
	if x.large {
		return 300 + p.rnd.IntN(1200)
	}
	return minPacket + p.rnd.IntN(120)
}

// worn is the mix for a failing disk.
var worn = mix{append: 6, stream: 2, done: 4, release: 1, seen: 1, cleared: 1, sync: 2, dead: 1, raise: 1, lower: 1, reset: 1, ranked: true}

func (x mix) with(change func(*mix)) mix {
	change(&x)
	return x
}

// aftermath is the mix between a crash and the next one.
var aftermath = mix{append: 4, stream: 2, done: 3, release: 1, seen: 1, cleared: 1, reset: 1, sync: 3, restart: 1, kill: 1, dead: 1, discard: 1, raise: 1, lower: 1, ranked: true}

// concurrent runs several actors concurrently, which share commits.
func concurrent(p *program) error {
	if err := p.open(); err != nil {
		return err
	}
	x := mix{append: 5, done: 3, sync: 1}
	for range 2 {
		var group sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			a := p.actor(i)
			steps := make([]func() error, 0, 6)
			for range cap(steps) { // the generator is not safe for concurrent use
				kind, size, name := p.rnd.IntN(10), x.size(p), string(rune('a'+i))
				steps = append(steps, func() error {
					switch {
					case kind < 5:
						return a.append(size, name, looks{})
					case kind < 8 && len(a.live) > 0:
						return a.done(0, Acked)
					case kind == 8 && len(a.live) > 0:
						return a.release(0)
					}
					return a.sync()
				})
			}
			group.Go(func() {
				for _, step := range steps {
					if errs[i] == nil {
						errs[i] = step()
					}
				}
			})
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	if err := p.close(); err != nil {
		return err
	}
	return p.open()
}

// failing uses a disk on which operations fail at random. It opens the log again after it has failed.
func (x mix) failing(rounds, steps int) func(*program) error {
	return func(p *program) error {
		rnd, calm := rand.New(rand.NewPCG(p.rnd.Uint64(), 2)), 4 // no failure before calm; another goroutine moves messages
		p.fsys.setFault(func(op, name string, n int) (int, error) {
			if calm--; calm > 0 || rnd.IntN(12) > 0 {
				return n, nil
			}
			calm = rnd.IntN(12)
			switch {
			case op == "write" && rnd.IntN(2) == 0:
				return n / 2, nil
			case strings.HasSuffix(name, receipts.Suffix) || rnd.IntN(2) == 0: // without room, receipts are lost
				return n / 3, syscall.EIO
			}
			return n / 3, syscall.ENOSPC
		})
		_, err := x.endure(p, rounds, steps)
		return err
	}
}

// endure opens the log several times, and does up to this many steps each time, until the log
// fails. It returns the errors of the failing disk, and a violation.
func (x mix) endure(p *program, rounds, steps int) (failures []error, _ error) {
	for range rounds {
		err := p.open()
		for i := 0; i < steps && err == nil; i++ {
			err = x.step(p, p.actor(0))
		}
		if err == nil {
			err = p.close()
		}
		if err != nil && p.l != nil {
			_ = p.l.Close()
			p.moved += p.l.Stats().Moved
		}
		if v := (violation{}); errors.As(err, &v) {
			return failures, err
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return failures, nil
}
