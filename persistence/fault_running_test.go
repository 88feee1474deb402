package persistence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
)

// Tests of a log in use whose disk fails.

// diskFault is a way in which an operation fails.
type diskFault struct {
	name  string
	fails func(op string, n int) (int, error)
}

var diskFaults = []diskFault{
	{"error, half of a write is done", func(_ string, n int) (int, error) { return n / 2, syscall.EIO }},
	{"short write", func(op string, n int) (int, error) {
		if op == "write" {
			return n / 3, nil
		}
		return 0, syscall.EIO
	}},
	{"no space", func(_ string, _ int) (int, error) { return 0, syscall.ENOSPC }},
}

// spares reports whether the fault does not apply to a file. Without room, receipts are lost, see
// TestReceipts_LostOnFullDisk.
func (f diskFault) spares(name string) bool {
	return f.name == "no space" && strings.HasSuffix(name, receipts.Suffix)
}

// TestFailedOperation makes each operation fail once, in turn. The log continues in a new segment.
// Nothing that it has guaranteed may be missing, even after a kill or a power failure. No file may
// be synced again after its sync has failed.
func TestFailedOperation(t *testing.T) {
	x := mix{append: 6, stream: 2, done: 5, release: 1, seen: 1, cleared: 1, sync: 2, dead: 1, raise: 1, ranked: true, large: true}
	each := with(small, func(o *Options) { o.Retention.MaxReceipts = 100 })
	interval := with(each, func(o *Options) { o.Sync, o.Interval = SyncInterval, 24*3600e9 })
	for _, o := range []Options{each, interval} {
		for _, f := range diskFaults {
			for seed := range uint64(2) {
				whole := newProgram(newMemFS(), o, newModel(o), seed, 0)
				if _, err := x.endure(whole, 2, 25); err != nil {
					t.Fatal(err)
				}
				for at := 1; at <= whole.fsys.ops; at++ {
					p := newProgram(newMemFS(), o, newModel(o), seed, 0)
					p.fsys.setFault(func(op, name string, n int) (int, error) {
						if p.fsys.ops != at || f.spares(name) {
							return n, nil
						}
						return f.fails(op, n)
					})
					if err := p.survives(x, rand.New(rand.NewPCG(seed, uint64(at)))); err != nil {
						t.Fatalf("policy %d, %s, seed %d, operation %d of %d: %v%s", o.Sync, f.name, seed, at, whole.fsys.ops, err, traced(p.fsys.Trace(), p.fsys.Len()))
					}
				}
			}
		}
	}
}

func (p *program) survives(x mix, rnd *rand.Rand) error {
	if _, err := x.endure(p, 2, 25); err != nil {
		return err
	}
	if err := p.neverSyncedAgain(); err != nil {
		return err
	}
	if err := agrees(p.fsys.Killed(), p.o, p.now()); err != nil {
		return fmt.Errorf("killed: %w", err)
	}
	if err := agrees(p.fsys.PowerCut(rnd), p.o, p.now()); err != nil {
		return fmt.Errorf("power cut: %w", err)
	}
	return nil
}

// neverSyncedAgain checks that no file is synced again after its sync has failed: the system may
// have dropped the data, and may report success for the next sync. Only the next opening may sync
// such a file, because it cannot know of the failure.
func (p *program) neverSyncedAgain() error {
	opened, failed := p.openings, map[string]bool{}
	for i, op := range p.fsys.Trace().Ops {
		for len(opened) > 0 && opened[0] <= i {
			opened = opened[1:]
			clear(failed)
		}
		switch {
		case op.Kind == faultfs.Create:
			delete(failed, op.Name)
		case op.Kind == faultfs.Sync && failed[op.Name]:
			return fmt.Errorf("synced again: %v", op)
		case op.Kind == faultfs.Sync:
			failed[op.Name] = op.Err != nil
		}
	}
	return nil
}

// TestLastingFault makes all operations fail from one on. The log returns typed errors. After the
// disk was repaired, the log opens again and contains everything that it has guaranteed.
func TestLastingFault(t *testing.T) {
	x := mix{append: 6, done: 4, sync: 2, dead: 1, raise: 1, restart: 1, ranked: true, large: true}
	o := with(small, func(o *Options) { o.Retention.MaxReceipts = 100 })
	for _, c := range []struct {
		cause error
		ops   []string // operations that fail
	}{
		{syscall.ENOSPC, []string{"create", "write"}},
		{syscall.EROFS, []string{"create", "write", "truncate", "remove"}},
		{syscall.EIO, []string{"create", "write", "truncate", "sync", "syncdir", "remove"}},
		{syscall.EIO, []string{"sync"}},
	} {
		told := 0
		for at := 1; at < 150; at++ {
			p := newProgram(newMemFS(), o, newModel(o), uint64(at), 0)
			p.fsys.setFault(func(op, name string, n int) (int, error) {
				if p.fsys.ops < at || !slices.Contains(c.ops, op) || c.cause == syscall.ENOSPC && strings.HasSuffix(name, receipts.Suffix) {
					return n, nil
				}
				return 0, c.cause
			})
			failures, err := x.endure(p, 1, 60)
			for _, failure := range failures {
				var folder *FolderError
				if told++; !errors.Is(failure, c.cause) || !errors.Is(failure, ErrDegraded) && !errors.Is(failure, ErrFailed) && !errors.As(failure, &folder) {
					t.Fatalf("%v from operation %d on: the log returns %v", c.cause, at, failure)
				}
			}
			if err == nil {
				p.fsys.setFault(func(_, _ string, n int) (int, error) { return n, nil })
				failures, err = x.endure(p, 1, 10)
			}
			if err = errors.Join(errors.Join(failures...), err, agrees(p.fsys.Killed(), o, p.now())); err != nil {
				t.Fatalf("%v from operation %d on, then the disk is mended: %v", c.cause, at, err)
			}
		}
		if told < 100 {
			t.Errorf("%v: reported %d times in 150", c.cause, told)
		}
	}
}
