package mqtttest

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// proxyLinger is how long the proxy waits, after an orderly cut, for the receiver to close its
// connection. After this time, the proxy resets the connection.
const proxyLinger = time.Second

// proxyLink joins a client's connection to a connection to the target. Two pumps move the bytes.
type proxyLink struct {
	p      *Proxy
	id     uint64
	seed   uint64
	client net.Conn
	ctx    context.Context // ends with the link
	cancel context.CancelFunc

	swallowed atomic.Bool  // Swallow was called
	gone      atomic.Int32 // ends that have closed their connection since

	mu     sync.Mutex
	server net.Conn // nil before it is dialed
	dead   bool
	hooks  [2]proxyHookCall
	drain  net.Conn // the connection has received all bytes and a FIN, and may still send bytes
}

// proxyHookCall is the call of OnPacket in one direction of a link.
type proxyHookCall struct {
	guard   callback.Guard
	running atomic.Bool
	cut     atomic.Bool // Cut was called in the hook
}

// inside returns the call of OnPacket in which the calling goroutine runs, or nil.
func (l *proxyLink) inside() *proxyHookCall {
	for i := range l.hooks {
		if h := &l.hooks[i]; h.running.Load() && h.guard.Inside() {
			return h
		}
	}
	return nil
}

// call calls OnPacket.
func (h *proxyHookCall) call(hook func() Action) Action {
	defer h.guard.Enter()()
	h.running.Store(true)
	defer h.running.Store(false)
	if action := hook(); !h.cut.Swap(false) {
		return action
	}
	return ActionCutBefore
}

// serve joins the client to the target and returns when the link has ended.
func (l *proxyLink) serve(dial func(context.Context) (net.Conn, error)) {
	defer l.forget()
	server, err := dial(l.ctx)
	if err != nil {
		if l.ctx.Err() == nil {
			l.p.note(func(s *ProxyStats) { s.DialErrors++ })
		}
		l.abort()
		return
	}
	if !l.join(server) {
		return
	}
	l.p.note(func(s *ProxyStats) { s.Connections++; s.Open++ })
	var pumps sync.WaitGroup
	for _, pump := range []*proxyPump{
		newProxyPump(l, ToServer, l.client, server),
		newProxyPump(l, ToClient, server, l.client),
	} {
		pumps.Go(pump.read)
		pumps.Go(pump.write)
	}
	pumps.Wait()
	l.finish()
	l.p.note(func(s *ProxyStats) { s.Open-- })
}

// swallow reads and discards the client's bytes without an answer. It ends when the client gives up
// or a fault ends the link.
func (l *proxyLink) swallow() {
	defer l.forget()
	_, _ = io.Copy(io.Discard, l.client)
	l.abort()
}

// join stores the connection to the target. It returns false if the link was cut before that.
func (l *proxyLink) join(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		proxyReset(server)
		return false
	}
	l.server = server
	return true
}

// finish closes both ends after the pumps have stopped. If a socket with unread bytes is closed,
// the system resets the connection, and the reset may overtake sent bytes. finish therefore first
// reads and discards the bytes that the receiver of an orderly cut still sends.
func (l *proxyLink) finish() {
	l.mu.Lock()
	drain := l.drain
	l.mu.Unlock()
	if drain != nil && drain.SetReadDeadline(time.Now().Add(proxyLinger)) == nil {
		_, _ = io.Copy(io.Discard, drain)
	}
	_ = l.client.Close()
	_ = l.server.Close()
}

// forget removes the link from the proxy's list.
func (l *proxyLink) forget() {
	l.cancel()
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.links, l)
}

// abort resets both ends at once. It reports whether the link was alive.
func (l *proxyLink) abort() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	alive := !l.dead
	l.dead = true
	l.cancel()
	proxyReset(l.client)
	if l.server != nil {
		proxyReset(l.server)
	}
	return alive
}

// cut calls abort and counts a fault.
func (l *proxyLink) cut() {
	if l.abort() {
		l.p.note(func(s *ProxyStats) { s.Cuts++ })
	}
}

// cutBehind ends the link after dst has received all bytes. dst receives the end of the stream, and
// src receives a reset.
func (l *proxyLink) cutBehind(src, dst net.Conn) {
	l.mu.Lock()
	alive := !l.dead
	if alive {
		l.dead = true
		l.cancel()
		proxyReset(src)
		proxyCloseWrite(dst)
		l.drain = dst
		_ = dst.SetReadDeadline(time.Now()) // stops the pump that reads dst
	}
	l.mu.Unlock()
	if alive {
		l.p.note(func(s *ProxyStats) { s.Cuts++ })
	}
}

// proxyReset closes conn with a reset, where the platform supports it.
func proxyReset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// proxyCloseWrite sends a FIN after all bytes. It closes a pipe completely, because a pipe has no
// separate directions.
func proxyCloseWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = conn.Close()
}
