// Package callback has the one guard through which a client calls functions of the application.
package callback

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
)

// Panic is a panic of an application's function, or a runtime.Goexit in it.
type Panic struct {
	Value any    // what panic was called with; ErrGoexit for runtime.Goexit
	Stack []byte // of the goroutine, as text
}

func (p *Panic) Error() string {
	return fmt.Sprintf("client: function of the application panicked: %v; PanicError.Stack shows where", p.Value)
}

// ErrGoexit is the Value of a Panic that was a runtime.Goexit.
var ErrGoexit = fmt.Errorf("runtime.Goexit was called")

// Try calls f and returns a panic in it as an error. A runtime.Goexit ends the
// goroutine nevertheless; see Protect.
func Try(f func()) *Panic { return Protect(f, func(*Panic) {}) }

// Protect is Try for a goroutine that must go on after a runtime.Goexit: exited
// is then called while the goroutine ends, and can start another in its place.
func Protect(f func(), exited func(*Panic)) (err *Panic) {
	returned := false
	defer func() {
		if returned {
			return
		}
		err = &Panic{Value: recover(), Stack: debug.Stack()}
		if err.Value == nil {
			err.Value = ErrGoexit
			exited(err)
		}
	}()
	f()
	returned = true
	return nil
}

// Probe returns an error that a function of the application has returned, and calls its methods. It is
// called where that function is: a panic in one of them, such as that of a nil pointer in an error, is
// a panic of the function then, and not of whoever looks at the error later.
func Probe(err error) error {
	if err != nil {
		_ = err.Error()
		_ = errors.Is(err, ErrGoexit) // calls Unwrap and Is
		_ = errors.As(err, new(*Panic))
	}
	return err
}

// Guard calls functions of the application for one client, and knows which goroutines are inside
// one, so that Close, called from a handler, does not wait for itself. The zero value is ready for
// use; all methods are safe for concurrent use.
type Guard struct {
	mu     sync.Mutex
	inside map[uint64]int // by goroutine: how many calls of Enter are open
	idle   []*caller
	ended  bool
}

// caller is a goroutine that calls functions, one after the other.
type caller struct {
	calls chan func()
	done  chan *Panic
}

// maxIdle is how many callers wait for a further call, at most.
const maxIdle = 4

// Enter marks the calling goroutine until it calls the function that is returned.
// Goroutines that live long call it once, when they start.
func (g *Guard) Enter() (leave func()) {
	id := goroutine()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside == nil {
		g.inside = map[uint64]int{}
	}
	g.inside[id]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.inside[id]--; g.inside[id] == 0 {
			delete(g.inside, id)
		}
	}
}

// Call is Try that also returns after a runtime.Goexit in f: it has a goroutine that is marked call f,
// and waits for it. That takes about a microsecond.
func (g *Guard) Call(f func()) *Panic {
	c := g.take()
	c.calls <- f
	p := <-c.done
	if p == nil || p.Value != ErrGoexit {
		g.giveBack(c)
	}
	return p
}

// End ends the goroutines that wait for calls. Later calls have a goroutine of their own.
func (g *Guard) End() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for _, c := range g.idle {
		close(c.calls)
	}
	g.idle = nil
}

func (g *Guard) take() *caller {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := len(g.idle) - 1; last >= 0 {
		c := g.idle[last]
		g.idle = g.idle[:last]
		return c
	}
	c := &caller{make(chan func()), make(chan *Panic)}
	go c.run(g)
	return c
}

func (g *Guard) giveBack(c *caller) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || len(g.idle) == maxIdle {
		close(c.calls)
	} else {
		g.idle = append(g.idle, c)
	}
}

// run calls functions until one of them ends the goroutine, or no more come.
func (c *caller) run(g *Guard) {
	defer g.Enter()()
	for f := range c.calls {
		c.done <- Protect(f, func(exited *Panic) { c.done <- exited })
	}
}

// Inside reports whether the calling goroutine is inside a function that was
// called through this guard.
func (g *Guard) Inside() bool {
	id := goroutine()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside[id] > 0
}

// goroutine is the number of the calling goroutine, from the first line of its stack.
// The runtime has no other way to ask for it, and net/http uses this one.
func goroutine() uint64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(text, []byte(" "))
	id, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		panic("callback: the first line of a stack has another form: " + string(buf[:]))
	}
	return id
}
