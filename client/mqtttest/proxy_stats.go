package mqtttest

import (
	"context"
	"fmt"
)

// Stats returns a snapshot of the statistics.
func (p *Proxy) Stats() ProxyStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// WaitFor waits until the function done returns true for the statistics. A test can use it to wait
// for a fault without sleeping. WaitFor calls done with a lock held, so done must not call methods
// of the proxy. If ctx ends first, the error contains the statistics.
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
			return fmt.Errorf("mqtttest: the condition of WaitFor was not met; statistics %+v: %w", stats, context.Cause(ctx))
		}
	}
}

// note changes the statistics and wakes WaitFor.
func (p *Proxy) note(change func(*ProxyStats)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.stats)
	p.announce()
}

// announce wakes WaitFor. The caller holds p.mu.
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
