package mqtttest

import (
	"context"
	"fmt"
)

// Stats is a snapshot of what the proxy has seen and done.
func (p *Proxy) Stats() ProxyStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// WaitFor blocks until the statistics satisfy done, so that a test can wait for
// a fault to happen without sleeping. done is called under a lock and must not
// call the proxy. The error is ctx's, with the statistics as they stood.
func (p *Proxy) WaitFor(ctx context.Context, done func(ProxyStats) bool) error {
	for {
		p.mu.Lock()
		stats := p.stats
		if done(stats) {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("mqtttest: proxy did not get there, it stands at %+v: %w", stats, context.Cause(ctx))
		}
	}
}

// note changes the statistics and wakes those who wait for that.
func (p *Proxy) note(change func(*ProxyStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
	p.announce()
}

// announce wakes the waiters; p.mu is held.
func (p *Proxy) announce() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (s *ProxyStats) flow(dir Direction) *ProxyFlow {
	if dir == ToServer {
		return &s.ToServer
	}
	return &s.ToClient
}
