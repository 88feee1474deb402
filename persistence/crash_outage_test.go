package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
)

// outageWorkloads use a disk that refuses writes for some time. The log stays open.
var outageWorkloads = []crashWorkload{
	{name: "outages", o: small, run: mix{append: 8, stream: 2, done: 6, release: 1, seen: 1, cleared: 1, sync: 2, raise: 1, ranked: true}.outages(60)},
	{name: "outages, idle", o: small, run: mix{append: 8, stream: 2, done: 6, release: 2, seen: 2, cleared: 1, sync: 2, raise: 1, idle: 8, ranked: true}.outages(60)},
	{name: "outages, interval", o: with(small, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 }), run: mix{append: 8, stream: 2, done: 6, release: 1, seen: 1, sync: 2, raise: 1, ranked: true}.outages(60)},
	{name: "outages, never", o: with(small, func(o *Options) { o.Sync, o.Files.SegmentBytes = SyncNever, 32<<10 }), run: mix{append: 12, stream: 2, done: 4, sync: 1, raise: 1, large: true, ranked: true}.outages(60)},
	{name: "outages, all kinds", o: fewDeadLetters, run: mix{append: 10, done: 10, dead: 2, discard: 1, postpone: 3, release: 2, raise: 1, reset: 1, sync: 2, large: true, ranked: true}.outages(60)},
	{name: "outages with receipts", o: recording, run: mix{append: 8, done: 8, dead: 1, sync: 2, large: true}.outages(50)},
	{name: "outages at openings", o: small, run: mix{append: 10, done: 8, dead: 1, postpone: 1, release: 2, seen: 1, cleared: 1, raise: 1, sync: 3, large: true, ranked: true, reopen: true}.outages(80)},
	{name: "outages of a full disk", o: small, run: mix{append: 14, done: 8, dead: 1, release: 2, seen: 1, raise: 1, sync: 3, large: true, ranked: true, full: true}.outages(80)},
	{name: "outages while moving", o: small, run: mix{append: 10, done: 20, release: 1, sync: 2, large: true, stuck: 2}.outages(100)},
}

var outageErrors = []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.ENODEV}

// outage makes the operations of one kind of outage fail while it lasts.
type outage struct {
	rnd   *rand.Rand
	lasts bool
	cause error
	ops   []string
}

func (x *outage) begin() {
	x.lasts, x.cause = true, outageErrors[x.rnd.IntN(len(outageErrors))]
	x.ops = [][]string{{"create"}, {"sync"}, {"create", "write"}, {"create", "write", "sync", "syncdir", "truncate"}, {"create", "write", "sync", "syncdir", "truncate", "remove"}}[x.rnd.IntN(5)]
}

func (x *outage) fault(op, name string, n int) (int, error) {
	if !x.lasts || !slices.Contains(x.ops, op) || x.cause == syscall.ENOSPC && strings.HasSuffix(name, receipts.Suffix) { // without room receipts are given up
		return n, nil
	}
	return x.rnd.IntN(n + 1), x.cause
}

// outages runs steps during which outages begin and end.
func (x mix) outages(steps int) func(*program) error {
	return func(p *program) error {
		if err := p.open(); err != nil {
			return err
		}
		disk := &outage{rnd: rand.New(rand.NewPCG(p.rnd.Uint64(), 3))}
		p.fsys.setFault(func(op, name string, n int) (int, error) { return disk.fault(op, name, n) })
		defer p.fsys.setFault(func(_, _ string, n int) (int, error) { return n, nil })
		for range steps {
			p.settle()
			switch {
			case !disk.lasts && p.rnd.IntN(8) == 0:
				if disk.begin(); x.full { // new files fail, so the reserve is used
					disk.cause, disk.ops = syscall.ENOSPC, []string{"create"}
				}
			case disk.lasts && p.rnd.IntN(6) == 0:
				disk.lasts = false
			}
			if p.rnd.IntN(3) == 0 {
				p.mend()
			}
			if x.reopen && disk.lasts && p.rnd.IntN(5) == 0 {
				p.kill()
				err := p.open() // opened in degraded state, or refused
				if err != nil && !errors.As(err, new(violation)) {
					disk.lasts = false
					err = p.open()
				}
				if err != nil {
					return err
				}
				continue
			}
			err := x.step(p, p.actor(0))
			if err != nil && !errors.Is(err, ErrDegraded) {
				return fmt.Errorf("in an outage (%v): %w", disk.lasts, err)
			}
		}
		disk.lasts = false
		p.settle()
		if !p.mend() {
			return violation{errors.New("the outage has not ended")}
		}
		m := p.now()
		m.boot.low, m.boot.high = m.boot.low-1, m.boot.high-1 // without the present opening
		if s, err := show(p.l, m); err != nil {
			return violation{err}
		} else if err := m.check(s); err != nil {
			return violation{fmt.Errorf("before the end: %w", err)}
		}
		if p.rnd.IntN(2) == 0 {
			p.kill()
			return p.open()
		}
		return p.close()
	}
}

// mend makes the attempt that the goroutine of an outage would make later. It reports whether there
// is no outage.
func (p *program) mend() bool {
	p.l.mu.Lock()
	mended := mend(p.l)
	p.l.mu.Unlock()
	p.l.removeDone()
	return mended
}

// TestOutage_AcceptsMessagesAgain makes each operation fail for some time. Meanwhile, accepted
// messages can be read and sent. When the disk works again, the log accepts messages.
func TestOutage_AcceptsMessagesAgain(t *testing.T) {
	for _, cause := range outageErrors {
		for _, op := range []string{"create", "write", "sync"} {
			t.Run(fmt.Sprint(cause, ", ", op), func(t *testing.T) {
				fsys := newMemFS()
				events := make(chan *DegradedError, 10)
				o := with(small, func(o *Options) { o.OnDegraded = func(err *DegradedError) { events <- err } })
				l := open(t, fsys, o)
				for n := range uint64(3) {
					if _, err := Append(l, numbered(n+1, 10)); err != nil {
						t.Fatal(err)
					}
				}
				fails := true
				fsys.setFault(func(is, _ string, n int) (int, error) {
					if fails && (is == op || is == "create") { // the second attempt needs a new file
						return 0, cause
					}
					return n, nil
				})
				var refused error
				for n := uint64(4); refused == nil; n++ {
					_, refused = Append(l, numbered(n, 1000))
				}
				var degraded *DegradedError
				if !errors.As(refused, &degraded) || !errors.Is(refused, ErrDegraded) || !errors.Is(refused, cause) || degraded.Fix == "" {
					t.Fatalf("%v", refused)
				}
				before := l.Stats()
				if _, err := l.Enqueue(context.Background(), numbered(1000, 10)); !errors.Is(err, ErrDegraded) || l.Stats().Pending != before.Pending || !before.Degraded {
					t.Errorf("Enqueue: %v, %+v", err, l.Stats())
				}
				if err := <-events; err != degraded && err.Err.Error() != degraded.Err.Error() {
					t.Errorf("OnDegraded(%v)", err)
				}
				var e Entry
				if ok, err := l.Next(&Cursor{}, &e); !ok || err != nil || e.Seq != 1 {
					t.Errorf("Next: %v %v", ok, err)
				}
				for _, err := range []error{l.Release(1), l.Done(1, Result{Kind: Acked}), l.Seen(1, 7), l.Cleared(1)} {
					if err != nil {
						t.Error(err)
					}
				}
				for _, err := range []error{l.Sync(), l.SetSent(Normal, 2)} {
					if !errors.Is(err, ErrDegraded) {
						t.Errorf("made durable: %v", err)
					}
				}
				fsys.setFault(func(_, _ string, n int) (int, error) { return n, nil })
				if err := <-events; err != nil {
					t.Errorf("OnDegraded(%v), want nil", err)
				}
				if s := l.Stats(); s.Degraded || s.Outages != 1 {
					t.Errorf("after the outage: %+v", s)
				}
				if err := errors.Join(l.Sync(), l.SetSent(Normal, 2)); err != nil {
					t.Error(err)
				}
				if _, err := Append(l, numbered(l.LastSeq()+1, 10)); err != nil {
					t.Error(err)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				l = open(t, onMemFS(fsys.FS.Killed()), small)
				defer l.Close()
				if seqs, _ := contents(t, l); !slices.Equal(seqs[:2], []uint64{2, 3}) || uint64(len(seqs)) != before.Pending {
					t.Errorf("%v are pending, want 2, 3 and the others: %d in all", seqs, before.Pending)
				}
			})
		}
	}
}
