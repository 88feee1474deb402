package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	proxyMaxConnections = 4096
	proxyDialTimeout    = 10 * time.Second
)

// Proxy forwards connections between MQTT clients and a broker, and injects faults. It can cut
// connections, truncate packets, drop acknowledgements, and stall or delay bytes. Without a fault,
// it forwards all bytes unchanged.
//
// There are two kinds of faults. Faults on bytes (Cut, CutAfter, Stall, Swallow, Delay, Throttle,
// Fragment) work for any stream, including TLS and WebSocket. Faults on packets (CutInside, Lose,
// OnPacket) require an unencrypted MQTT stream. They have no effect on other streams, which
// [ProxyStats.Opaque] counts.
//
// Cut resets the connections of both ends at once, and may discard bytes in transit. Every other
// fault that ends a connection first delivers all earlier bytes. It then ends the stream to the
// receiver, and resets the connection of the sender.
//
// All methods are safe for concurrent use. A Proxy buffers at most 1 MiB per connection and
// direction. When the buffer is full, the sender blocks, like on a real network.
type Proxy struct {
	url      string
	listener net.Listener // nil if only Dial is used
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	shape   atomic.Pointer[proxyShape]
	hook    atomic.Pointer[proxyHook]
	hooking atomic.Int32   // number of running hooks
	armed   [2]atomic.Bool // rules has a fault for this direction

	mu        sync.Mutex // guards the following fields
	dial      func(context.Context) (net.Conn, error)
	links     map[*proxyLink]struct{}
	nextLink  uint64
	seed      uint64
	refuse    bool
	blackhole bool
	rules     [2]proxyRules
	stats     ProxyStats
	changed   chan struct{} // closed when stats change; nil without waiters
	closed    bool
}

// StartProxy starts a proxy to target on a free local port, and closes it when the test ends. If
// the start fails, the test fails.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := NewProxy("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// NewProxy returns a proxy that listens on addr and forwards each connection to target. The address
// "127.0.0.1:0" selects a free port. target is "mqtt://host:port" or "host:port". The caller must
// call Close.
func NewProxy(addr, target string) (*Proxy, error) {
	dial, err := proxyDialer(target)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mqtttest: proxy cannot listen on %q; choose another address: %w", addr, err)
	}
	p := NewPipeProxy(dial)
	p.url, p.listener = "mqtt://"+listener.Addr().String(), listener
	p.wg.Go(p.accept)
	return p, nil
}

// NewPipeProxy returns a proxy without a port. Clients connect with [Proxy.Dial]. For each client,
// the proxy calls dial to open a connection to the broker. If all connections are in memory, the
// proxy works in a testing/synctest bubble.
func NewPipeProxy(dial func(context.Context) (net.Conn, error)) *Proxy {
	p := &Proxy{dial: dial, links: map[*proxyLink]struct{}{}, seed: 1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.shape.Store(&proxyShape{changed: make(chan struct{})})
	return p
}

// URL returns the proxy's address for clients in the form "mqtt://host:port". For a pipe proxy, it
// returns "".
func (p *Proxy) URL() string { return p.url }

// Addr returns the host and port of URL.
func (p *Proxy) Addr() string { return strings.TrimPrefix(p.url, "mqtt://") }

// SetTarget makes the proxy forward new connections to another broker, like a failover. It does not
// change existing connections. To make their clients reconnect, call Cut. SetTarget returns an
// error if target is invalid.
func (p *Proxy) SetTarget(target string) error {
	dial, err := proxyDialer(target)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dial = dial
	return nil
}

// Dial opens an in-memory connection through the proxy. Refuse and Blackhole also apply to this
// connection. Dial returns an error only after Close.
func (p *Proxy) Dial() (net.Conn, error) {
	near, far := net.Pipe()
	if !p.admit(far) {
		_ = near.Close()
		return nil, fmt.Errorf("mqtttest: proxy: %w", net.ErrClosed)
	}
	return near, nil
}

// Close cuts all connections, stops all schedules and waits for all goroutines. If an OnPacket hook
// calls Close, Close does not wait. It returns an error if a hook has not returned after 2 s.
func (p *Proxy) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	var err error
	if first && p.listener != nil {
		err = p.listener.Close()
	}
	p.cancel()
	inHook := false
	for _, l := range p.snapshot() {
		inHook = inHook || l.inside() != nil
		l.abort()
	}
	if inHook {
		return err
	}
	ended := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return err
		case <-time.After(hookLimit):
			if p.hooking.Load() > 0 {
				return errors.Join(err, fmt.Errorf("mqtttest: proxy: an OnPacket hook has not returned within %v after Close", hookLimit))
			}
		}
	}
}

// accept accepts connections until the listener is closed. After a temporary failure, such as too
// many open files, it waits and retries.
func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		switch {
		case err == nil:
			p.admit(conn)
		case errors.Is(err, net.ErrClosed):
			return
		case !proxyWait(p.ctx, 10*time.Millisecond, nil):
			return
		}
	}
}

// admit starts forwarding a client's connection. It returns false if the proxy is closed.
func (p *Proxy) admit(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse || len(p.links) >= proxyMaxConnections {
		proxyReset(client)
		if !p.closed {
			p.stats.Refused++
			p.announce()
		}
		return !p.closed
	}
	p.nextLink++
	l := &proxyLink{p: p, client: client, id: p.nextLink, seed: p.seed}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	p.links[l] = struct{}{}
	if p.blackhole {
		p.stats.Blackholed++
		p.announce()
		p.wg.Go(l.swallow)
	} else {
		dial := p.dial
		p.wg.Go(func() { l.serve(dial) })
	}
	return true
}

func (p *Proxy) snapshot() []*proxyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*proxyLink, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// proxyDialer parses the target of SetTarget and NewProxy.
func proxyDialer(target string) (func(context.Context) (net.Conn, error), error) {
	addr := target
	if strings.Contains(target, "://") {
		u, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("mqtttest: proxy target %q: %w", target, err)
		}
		addr = u.Host
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("mqtttest: proxy target %q must be host:port or mqtt://host:port: %w", target, err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		dialer := net.Dialer{Timeout: proxyDialTimeout}
		return dialer.DialContext(ctx, "tcp", addr)
	}, nil
}
