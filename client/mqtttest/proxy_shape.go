package mqtttest

import (
	"context"
	"time"
)

// proxyShape describes how the proxy forwards bytes at present. It is immutable. When another
// proxyShape replaces it, changed is closed.
type proxyShape struct {
	delay, jitter time.Duration
	rate          int // bytes per second; 0: no limit
	fragment      int // bytes per write; 0: no limit
	stalled       [2]bool
	until         [2]time.Time // end of a stall; zero: until Resume
	changed       chan struct{}
}

// stall reports whether dir is stalled, and for how much longer. The duration 0 means until Resume.
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

// Stall stops forwarding in the given directions until Resume is called. Without arguments, it
// stops both directions. Connections stay open. If one end closes its connection, the proxy does
// not inform the other end. This simulates a link without signal. The proxy keeps up to 1 MiB for
// each connection and direction, and [Proxy.Resume] delivers these bytes. New connections stall
// too: the proxy accepts them and dials the broker, but forwards nothing. To lose the bytes and let
// new connections pass, use [Proxy.Swallow].
func (p *Proxy) Stall(dirs ...Direction) { p.stall(time.Time{}, dirs) }

// StallFor is like Stall, but the stall ends after d.
func (p *Proxy) StallFor(d time.Duration, dirs ...Direction) { p.stall(time.Now().Add(d), dirs) }

func (p *Proxy) stall(until time.Time, dirs []Direction) {
	p.note(func(s *ProxyStats) { s.Stalls++ })
	p.reshape(func(s *proxyShape) {
		for _, dir := range proxyBoth(dirs) {
			s.stalled[dir], s.until[dir] = true, until
		}
	})
}

// Resume ends a stall of the given directions. Without arguments, it ends a stall of both
// directions. The proxy delivers the waiting bytes in order, also those of an end that has closed its
// connection meanwhile. The end of the connection follows.
func (p *Proxy) Resume(dirs ...Direction) {
	p.reshape(func(s *proxyShape) {
		for _, dir := range proxyBoth(dirs) {
			s.stalled[dir] = false
		}
	})
}

// Delay makes the proxy deliver every byte after d plus a random time up to jitter, in each
// direction. The bytes stay in order. Delay(0, 0) removes the delay for bytes that the proxy
// receives from now on. [Proxy.Seed] sets the seed of the jitter.
func (p *Proxy) Delay(d, jitter time.Duration) {
	p.reshape(func(s *proxyShape) { s.delay, s.jitter = max(d, 0), max(jitter, 0) })
}

// Throttle limits how many bytes per second the proxy forwards, for each connection and direction.
// Zero means no limit.
func (p *Proxy) Throttle(bytesPerSecond int) {
	p.reshape(func(s *proxyShape) { s.rate = max(bytesPerSecond, 0) })
}

// Fragment makes the proxy write at most n bytes at a time, so that packets arrive in pieces. Over
// TCP, a slow reader may receive several pieces at once. Zero means no limit.
func (p *Proxy) Fragment(n int) {
	p.reshape(func(s *proxyShape) { s.fragment = max(n, 0) })
}

// Seed sets the seed of the random jitter and of CutEvery. It applies to connections and schedules
// that begin after the call. The default seed is 1.
func (p *Proxy) Seed(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seed = seed
}

// reshape replaces the shape and wakes all pumps that wait.
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

// proxyWait waits for d, or until changed is closed. If d is 0, only changed ends the wait. It
// returns false if ctx has ended.
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
