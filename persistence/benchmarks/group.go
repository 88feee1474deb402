package benchmarks

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// group is the group commit that a program would put before a database: one
// goroutine takes all appends that wait, and all removals noted since, into one
// transaction. It waits for those whom the last commit woke, as mooring does.
type group struct {
	commit func(packets [][]byte, taken uint64) error

	mu      sync.Mutex
	cur     *groupBatch
	waiting atomic.Int32 // appends in cur
	taken   uint64       // everything up to this number is to be removed
	removed uint64       // everything up to this number was handed to commit for removal
	wake    chan struct{}
	stop    chan struct{}
	ended   chan struct{}
}

type groupBatch struct {
	packets [][]byte
	done    chan struct{} // closed when committed
	err     error         // valid then
}

// maxNoted removals wait at most for the next append; then they are committed
// on their own.
const maxNoted = 32_768

func newGroup(commit func(packets [][]byte, taken uint64) error) *group {
	g := &group{
		commit: commit,
		cur:    &groupBatch{done: make(chan struct{})},
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	go g.run()
	return g
}

func (g *group) append(packet []byte) error {
	g.mu.Lock()
	b := g.cur
	b.packets = append(b.packets, packet)
	g.waiting.Add(1)
	g.mu.Unlock()
	return g.await(b)
}

func (g *group) await(b *groupBatch) error {
	g.poke()
	<-b.done
	return b.err
}

func (g *group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// note says that everything up to taken is off the queue.
func (g *group) note(taken uint64) {
	g.mu.Lock()
	g.taken = taken
	many := g.taken-g.removed >= maxNoted
	g.mu.Unlock()
	if many {
		g.poke()
	}
}

func (g *group) flush() error {
	g.mu.Lock()
	b := g.cur
	g.mu.Unlock()
	return g.await(b)
}

// close is called once, when nobody waits any more.
func (g *group) close() error {
	err := g.flush()
	close(g.stop)
	<-g.ended
	return err
}

func (g *group) run() {
	defer close(g.ended)
	var crowd int
	var took time.Duration
	for {
		select {
		case <-g.wake:
		case <-g.stop:
			return
		}
		for begin := time.Now(); int(g.waiting.Load()) < crowd && time.Since(begin) < took/2; {
			runtime.Gosched()
		}
		g.mu.Lock()
		b, taken := g.cur, g.taken
		g.cur = &groupBatch{done: make(chan struct{}), packets: make([][]byte, 0, len(b.packets))}
		g.waiting.Store(0)
		g.removed = taken
		g.mu.Unlock()
		begin := time.Now()
		b.err = g.commit(b.packets, taken)
		took, crowd = time.Since(begin), len(b.packets)
		close(b.done)
	}
}
