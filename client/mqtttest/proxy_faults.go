package mqtttest

import (
	"context"
	"math/rand/v2"
	"time"
)

// Cut ends all connections at once, with a reset of both ends where the
// platform can. What was on its way is lost, except on the connection of an OnPacket
// hook that calls Cut.
func (p *Proxy) Cut() {
	for _, l := range p.snapshot() {
		if hook := l.inside(); hook != nil {
			hook.cut.Store(true)
			continue
		}
		l.cut()
	}
}

// Refuse closes new connections at once while it is on. Existing ones stay.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Blackhole accepts new connections and never answers them while it is on: no
// byte comes back and none reaches the broker. A connection that fell in stays
// in until its client gives up or Cut ends it.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackhole = on
}

// ProxyStep is one entry of a schedule.
type ProxyStep struct {
	After time.Duration // since the step before it
	Do    func(*Proxy)  // for example (*Proxy).Cut
}

// Schedule does the steps one after the other, in the background, until they
// are done, stop is called or the proxy is closed. stop waits until a step that
// is under way has returned; a step must not call it, nor Close.
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

// CutEvery cuts all connections again and again, at intervals of least to most,
// until stop is called or the proxy is closed. The intervals follow from
// [Proxy.Seed].
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

// repeat is the one goroutine of a schedule.
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
