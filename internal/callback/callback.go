// Package callback contains the guard through which a client calls functions of the application.
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

// Panic reports that a function of the application has panicked or has called runtime.Goexit.
type Panic struct {
	Value any    // argument of panic, or ErrGoexit after runtime.Goexit
	Stack []byte // stack of the goroutine, as text
}

func (p *Panic) Error() string {
	return fmt.Sprintf("client: function of the application panicked: %v; PanicError.Stack shows where", p.Value)
}

// ErrGoexit is the Value of a Panic if the function has called runtime.Goexit.
var ErrGoexit = fmt.Errorf("runtime.Goexit was called")

// Try calls f. If f panics, Try returns the panic as an error. If f calls runtime.Goexit, the
// goroutine ends and Try does not return. See Protect.
func Try(f func()) *Panic { return Protect(f, func(*Panic) {}) }

// Protect does the same as Try. In addition, if f calls runtime.Goexit, Protect calls exited while
// the goroutine ends. exited can start another goroutine that continues the work.
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

// Probe calls the methods of err and returns err, an error of a function of the application. A
// method of err may panic, for example if err contains a nil pointer. The caller calls Probe under
// the same guard as the function. Such a panic then counts as a panic of the function, and does not
// occur when other code uses the error.
func Probe(err error) error {
	if err != nil {
		_ = err.Error()
		_ = errors.Is(err, ErrGoexit) // calls Unwrap and Is
		_ = errors.As(err, new(*Panic))
	}
	return err
}

// Guard calls functions of the application for one client. It knows which goroutines currently run
// such a function. Therefore Close can detect that a handler calls it, and then does not wait for
// the handler. The zero value is ready for use. All methods are safe for concurrent use.
type Guard struct {
	mu     sync.Mutex
	inside map[uint64]int // number of open calls of Enter, by goroutine
	idle   []*caller
	ended  bool
}

// caller is a goroutine that calls one function after another.
type caller struct {
	calls chan func()
	done  chan *Panic
}

// maxIdle is the maximum number of callers that wait for a call.
const maxIdle = 4

// Enter records that the current goroutine runs functions of the application, until it calls leave.
// A long-lived goroutine calls Enter once, at its start.
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

// Call calls f on another goroutine and waits for it. Therefore it returns even if f calls
// runtime.Goexit. If f panics or calls runtime.Goexit, Call returns a Panic. A call takes about a
// microsecond.
func (g *Guard) Call(f func()) *Panic {
	c := g.take()
	c.calls <- f
	p := <-c.done
	if p == nil || p.Value != ErrGoexit {
		g.giveBack(c)
	}
	return p
}

// End ends the goroutines that wait for calls. Each later call uses a new goroutine.
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

// run calls functions until a function ends the goroutine, or until the channel is closed.
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

// goroutine returns the number of the current goroutine. It reads the number from the first line of
// the stack, because the runtime has no function that returns it. net/http does the same.
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
