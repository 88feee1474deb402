package mqtttest

import (
	"context"
	"math/rand/v2"
	"time"
)

// Cut ends all connections at once. It resets both ends if the platform supports that. Bytes in
// transit are lost. If an OnPacket hook calls Cut, no bytes are lost on the connection of that
// hook.
func (p *Proxy) Cut() {
	for _, l := range p.snapshot() {
		if hook := l.inside(); hook != nil {
			hook.cut.Store(true)
			continue
		}
		l.cut()
	}
}

// Refuse(true) makes the proxy close new connections at once. Refuse(false) ends this. Existing
// connections are not affected.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Blackhole(true) makes the proxy accept new connections but never answer them. The proxy forwards
// no byte in either direction. Such a connection remains until its client gives up or Cut ends it.
// Blackhole(false) applies to later connections. Existing connections are not affected, see
// [Proxy.Swallow].
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackhole = on
}

// Swallow makes the proxy discard all bytes of the existing connections, in both directions. The
// connections stay open. If one end closes its connection, the proxy does not inform the other end.
// New connections are not affected. This simulates a half-open connection whose path was lost, for
// example because a NAT forgot it. The bytes are lost, and [Proxy.Resume] does not deliver them. A
// connection remains until both ends have closed it, or until Cut ends it.
func (p *Proxy) Swallow() {
	for _, l := range p.snapshot() {
		l.swallowed.Store(true)
	}
	p.reshape(func(*proxyShape) {}) // wakes the pumps that wait for the end of a stall
}

// ProxyStep is a step of a schedule.
type ProxyStep struct {
	After time.Duration // time since the previous step
	Do    func(*Proxy)  // the action, for example (*Proxy).Cut
}

// Schedule runs the steps one after the other in the background. It ends when stop is called or the
// proxy is closed. stop waits for a running step. A step must not call stop or Close.
func (p *Proxy) Schedule(steps ...ProxyStep) (stop func()) {
	next := 0
	return p.repeat(func() (ProxyStep, bool) {
		if next == len(steps) {
			return ProxyStep{}, false
		}
		next++
		return steps[next-1], true
	})
}

// CutEvery cuts all connections repeatedly, at random intervals between least and most. It ends
// when stop is called or the proxy is closed. [Proxy.Seed] sets the seed of the intervals.
func (p *Proxy) CutEvery(least, most time.Duration) (stop func()) {
	p.mu.Lock()
	random := rand.New(rand.NewPCG(p.seed, 0))
	p.mu.Unlock()
	least = max(least, time.Millisecond)
	spread := max(most-least, 0) + 1
	return p.repeat(func() (ProxyStep, bool) {
		return ProxyStep{least + time.Duration(random.Int64N(int64(spread))), (*Proxy).Cut}, true
	})
}

// repeat runs a schedule on a goroutine.
func (p *Proxy) repeat(next func() (ProxyStep, bool)) (stop func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	done := make(chan struct{})
	run := func() {
		defer close(done)
		defer cancel()
		for {
			step, ok := next()
			if !ok || ctx.Err() != nil || step.After > 0 && !proxyWait(ctx, step.After, nil) {
				return
			}
			step.Do(p)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		cancel()
		return func() {}
	}
	p.wg.Go(run)
	return func() { cancel(); <-done }
}
