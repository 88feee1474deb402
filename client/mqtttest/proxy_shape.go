package mqtttest

import (
	"context"
	"time"
)

// proxyShape is how bytes pass at the moment. It is never changed, only
// replaced; changed is closed when that happens.
type proxyShape struct {
	delay, jitter time.Duration
	rate          int // bytes per second, 0: no limit
	fragment      int // most bytes in a write, 0: no limit
	stalled       [2]bool
	until         [2]time.Time // end of a stall, zero: until Resume
	changed       chan struct{}
}

// stall reports whether dir stands still, and for how much longer (0: until
// Resume).
func (s *proxyShape) stall(dir Direction) (bool, time.Duration) {
	if !s.stalled[dir] {
		return false, 0
	}
	if s.until[dir].IsZero() {
		return true, 0
	}
	left := time.Until(s.until[dir])
	return left > 0, left
}

// Stall stops the given directions, both if none is given, until Resume.
// Connections stay open and nothing tells either end: not even that the other
// one has closed. This is the half-open link of a lost radio signal or a NAT
// that forgot.
func (p *Proxy) Stall(dirs ...Direction) { p.stall(time.Time{}, dirs) }

// StallFor is a Stall that ends after d.
func (p *Proxy) StallFor(d time.Duration, dirs ...Direction) { p.stall(time.Now().Add(d), dirs) }

func (p *Proxy) stall(until time.Time, dirs []Direction) {
	p.note(func(s *ProxyStats) { s.Stalls++ })
	p.reshape(func(s *proxyShape) {
		for _, dir := range proxyBoth(dirs) {
			s.stalled[dir], s.until[dir] = true, until
		}
	})
}

// Resume ends a stall of the given directions, both if none is given. What
// waited is delivered in order.
func (p *Proxy) Resume(dirs ...Direction) {
	p.reshape(func(s *proxyShape) {
		for _, dir := range proxyBoth(dirs) {
			s.stalled[dir] = false
		}
	})
}

// Delay makes every byte arrive d later, and up to jitter later than that, in
// each direction. Order is kept. Zero and zero is no delay, for what arrives
// from now on. See [Proxy.Seed].
func (p *Proxy) Delay(d, jitter time.Duration) {
	p.reshape(func(s *proxyShape) { s.delay, s.jitter = max(d, 0), max(jitter, 0) })
}

// Throttle limits each connection and direction to so many bytes per second.
// Zero is no limit.
func (p *Proxy) Throttle(bytesPerSecond int) {
	p.reshape(func(s *proxyShape) { s.rate = max(bytesPerSecond, 0) })
}

// Fragment writes at most n bytes at a time, so that packets arrive in pieces
// (1: byte by byte). Over TCP a slow reader may still find pieces joined.
// Zero is no limit.
func (p *Proxy) Fragment(n int) {
	p.reshape(func(s *proxyShape) { s.fragment = max(n, 0) })
}

// Seed fixes the random choices, the jitter and the moments of CutEvery, of
// connections and schedules that begin afterwards. It is 1 if never set.
func (p *Proxy) Seed(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seed = seed
}

// reshape replaces the shape and wakes every pump that waits on the old one.
func (p *Proxy) reshape(change func(*proxyShape)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.shape.Load()
	shape := *old
	shape.changed = make(chan struct{})
	change(&shape)
	p.shape.Store(&shape)
	close(old.changed)
}

func proxyBoth(dirs []Direction) []Direction {
	if len(dirs) == 0 {
		return []Direction{ToServer, ToClient}
	}
	return dirs
}

// proxyWait waits for d (0: for ever) or until changed is closed. False means
// that ctx is over.
func proxyWait(ctx context.Context, d time.Duration, changed <-chan struct{}) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-changed:
	case <-ctx.Done():
		return false
	}
	return true
}
