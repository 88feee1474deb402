package benchmarks

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// group is a group commit as an application would put it in front of a database. One goroutine
// commits all waiting appends, and all removals recorded since, in one transaction. Like mooring,
// it waits for the goroutines that the last commit woke.
type group struct {
	commit func(packets [][]byte, taken uint64) error

	mu      sync.Mutex
	cur     *groupBatch
	waiting atomic.Int32 // appends in cur
	taken   uint64       // messages up to this number are to be removed
	removed uint64       // messages up to this number were passed to commit for removal
	wake    chan struct{}
	stop    chan struct{}
	ended   chan struct{}
}

type groupBatch struct {
	packets [][]byte
	done    chan struct{} // closed when committed
	err     error         // valid after done
}

// maxNoted is the number of removals that wait for the next append. More are committed without an
// append.
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

// note records that messages up to taken are to be removed.
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

// close is called once, after all appends have returned.
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
