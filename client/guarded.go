package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// functions calls functions of the application. A call may run on a goroutine of the client, or
// while the client holds locks. If the function panics or calls runtime.Goexit, the call fails, and
// the failure is reported. inbox.worker guards handlers and the other functions that it calls for
// each message.
type functions struct {
	guard  *callback.Guard
	failed func(name string, p *callback.Panic) // reports a failure; the caller may hold locks of the client
}

// call calls a function of the application. If the function panics, call returns an error.
func (f functions) call(name string, call func()) error {
	if p := f.guard.Call(call); p != nil {
		f.failed(name, p)
		return (*PanicError)(p)
	}
	return nil
}

// guardAll replaces the functions in cfg, the client's copy of the configuration, by guarded ones.
func (f functions) guardAll(cfg *Config) {
	conn, pub, in := &cfg.Connection, &cfg.Publishing, &cfg.Receiving
	conn.Dial = f.dial(conn.Dial)
	if ask := conn.Credentials; ask != nil {
		conn.Credentials = func(ctx context.Context) (got Credentials, err error) {
			if p := f.call("Credentials", func() { got, err = ask(ctx); _ = callback.Probe(err) }); p != nil {
				return Credentials{}, p
			}
			return got, err
		}
	}
	if change := conn.WebSocketRequest; change != nil {
		conn.WebSocketRequest = func(ctx context.Context, r *WebSocketRequest) (err error) {
			if p := f.call("WebSocketRequest", func() { err = change(ctx, r) }); p != nil {
				return p
			}
			return err
		}
	}
	if conn.Auth != nil {
		conn.Auth = guardedAuth{conn.Auth, f}
	}
	for name, b := range map[string]*reliability.Backoff{"Connection.Backoff.Rand": &conn.Backoff,
		"Publishing.RetryBackoff.Rand": &pub.RetryBackoff, "Receiving.HandlerBackoff.Rand": &in.HandlerBackoff} {
		b.Rand = f.rand(name, b.Rand)
	}
	if judge := pub.Breaker.Judge; judge != nil {
		pub.Breaker.Judge = func(err error) (j reliability.Judgment) {
			if f.call("Breaker.Judge", func() { j = judge(err) }) != nil {
				j = reliability.Judge(err)
			}
			return j
		}
	}
	if s := cfg.Store.Custom; s != nil {
		cfg.Store.Custom = &guardedStore{s, f}
	}
}

func (f functions) rand(name string, random func() float64) func() float64 {
	if random == nil {
		return nil
	}
	return func() (x float64) {
		if f.call(name, func() { x = random() }) != nil {
			x = rand.Float64()
		}
		return x
	}
}

// dial guards Connection.Dial or the built-in dialer. The built-in dialer calls the functions in
// Config.TLS.
func (f functions) dial(dial func(context.Context, *url.URL) (net.Conn, error)) func(context.Context, *url.URL) (net.Conn, error) {
	if dial == nil {
		return nil
	}
	return func(ctx context.Context, server *url.URL) (nc net.Conn, err error) {
		if p := f.call("Dial", func() { nc, err = dial(ctx, server); _ = callback.Probe(err) }); p != nil {
			return nil, p
		}
		if nc == nil && err == nil {
			err = errors.New("client: Connection.Dial returned neither a connection nor an error; return one of them")
		}
		return nc, err
	}
}

// guardedAuth guards an Authenticator.
type guardedAuth struct {
	Authenticator
	f functions
}

func (a guardedAuth) Method() (m string) {
	_ = a.f.call("Auth.Method", func() { m = a.Authenticator.Method() })
	return m
}

func (a guardedAuth) Start(ctx context.Context) (data []byte, err error) {
	if p := a.f.call("Auth.Start", func() { data, err = a.Authenticator.Start(ctx); _ = callback.Probe(err) }); p != nil {
		return nil, p
	}
	return data, err
}

func (a guardedAuth) Continue(ctx context.Context, challenge []byte) (data []byte, err error) {
	if p := a.f.call("Auth.Continue", func() { data, err = a.Authenticator.Continue(ctx, challenge); _ = callback.Probe(err) }); p != nil {
		return nil, p
	}
	return data, err
}

func (a guardedAuth) Done(ctx context.Context, data []byte) (err error) {
	return errors.Join(a.f.call("Auth.Done", func() { err = callback.Probe(a.Authenticator.Done(ctx, data)) }), err)
}

// guardedStore guards a custom store. The client may hold locks while it calls the methods.
type guardedStore struct {
	persistence.Store
	f functions
}

// optional returns an optional part of a store. ok is false if the store does not have it.
func optional[T any](s persistence.Store) (part T, ok bool) {
	if g, custom := s.(*guardedStore); custom {
		s = g.Store
	}
	part, ok = s.(T)
	return part, ok
}

// try calls a method that returns an error.
func (g *guardedStore) try(method string, call func() error) (err error) {
	if p := g.f.call("Store."+method, func() { err = callback.Probe(call()) }); p != nil {
		return p
	}
	return err
}

// get calls a method that returns no error. If the method panics, get returns the zero value.
func get[T any](g *guardedStore, method string, call func() T) (v T) {
	_ = g.f.call("Store."+method, func() { v = call() })
	return v
}

func (g *guardedStore) Enqueue(ctx context.Context, m *persistence.Message) (t persistence.Ticket, err error) {
	err = g.try("Enqueue", func() (err error) { t, err = g.Store.Enqueue(ctx, m); return err })
	return t, err
}

func (g *guardedStore) Wait(ctx context.Context, t persistence.Ticket) error {
	wait := func() error { return g.try("Wait", func() error { return g.Store.Wait(ctx, t) }) }
	if ctx.Done() == nil {
		return wait()
	}
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *guardedStore) Next(c *persistence.Cursor, e *persistence.Entry) (ok bool, err error) {
	err = g.try("Next", func() (err error) { ok, err = g.Store.Next(c, e); return err })
	return ok && err == nil, err
}

func (g *guardedStore) Get(seq uint64, e *persistence.Entry) (ok bool, err error) {
	err = g.try("Get", func() (err error) { ok, err = g.Store.Get(seq, e); return err })
	return ok && err == nil, err
}

func (g *guardedStore) First(p persistence.Priority) uint64 {
	return get(g, "First", func() uint64 { return g.Store.First(p) })
}

func (g *guardedStore) LastSeq() uint64 { return get(g, "LastSeq", g.Store.LastSeq) }

func (g *guardedStore) SetSent(p persistence.Priority, number uint64) error {
	return g.try("SetSent", func() error { return g.Store.SetSent(p, number) })
}

func (g *guardedStore) Sent(p persistence.Priority) uint64 {
	return get(g, "Sent", func() uint64 { return g.Store.Sent(p) })
}

func (g *guardedStore) Release(seq uint64) error {
	return g.try("Release", func() error { return g.Store.Release(seq) })
}

func (g *guardedStore) Released() []persistence.Position {
	return get(g, "Released", g.Store.Released)
}

func (g *guardedStore) Defer(seq uint64, d persistence.Deferral) error {
	return g.try("Defer", func() error { return g.Store.Defer(seq, d) })
}

func (g *guardedStore) Deferred() []persistence.Deferred {
	return get(g, "Deferred", g.Store.Deferred)
}

func (g *guardedStore) Done(seq uint64, r persistence.Result) error {
	return g.try("Done", func() error { return g.Store.Done(seq, r) })
}

func (g *guardedStore) Seen(id uint16, fingerprint uint64) error {
	return g.try("Seen", func() error { return g.Store.Seen(id, fingerprint) })
}

func (g *guardedStore) Cleared(id uint16) error {
	return g.try("Cleared", func() error { return g.Store.Cleared(id) })
}

func (g *guardedStore) SeenIDs() map[uint16]uint64 { return get(g, "SeenIDs", g.Store.SeenIDs) }

func (g *guardedStore) FingerprintKey() [16]byte {
	return get(g, "FingerprintKey", g.Store.FingerprintKey)
}

func (g *guardedStore) ResetSession(clientID string) error {
	return g.try("ResetSession", func() error { return g.Store.ResetSession(clientID) })
}

func (g *guardedStore) Session() (clientID string, known bool) {
	_ = g.f.call("Store.Session", func() { clientID, known = g.Store.Session() })
	return clientID, known
}

func (g *guardedStore) Sync() error { return g.try("Sync", g.Store.Sync) }

func (g *guardedStore) Stream(name string) (id uint32, last uint64, err error) {
	err = g.try("Stream", func() (err error) { id, last, err = g.Store.Stream(name); return err })
	return id, last, err
}

func (g *guardedStore) Epoch() uint64 { return get(g, "Epoch", g.Store.Epoch) }

func (g *guardedStore) Now() (now time.Time) {
	if now = get(g, "Now", g.Store.Now); now.IsZero() {
		now = time.Now()
	}
	return now
}

func (g *guardedStore) Stats() persistence.Stats { return get(g, "Stats", g.Store.Stats) }

func (g *guardedStore) Close() error { return g.try("Close", g.Store.Close) }
