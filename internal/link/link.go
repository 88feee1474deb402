package link

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Link keeps one connection to one of several servers: it connects, and connects
// again when the connection ends, until its context ends or the Policy stops it.
// All methods are safe for concurrent use; Run is called once.
type Link struct {
	cfg      Config
	retryNow notify.Signal // ends a delay early

	mu sync.Mutex
	up *Up // nil: not connected
}

// Config is what a Link needs.
type Config struct {
	Servers     []*url.URL // tried in turn
	Dial        func(ctx context.Context, server *url.URL) (net.Conn, error)
	Credentials func(ctx context.Context) (username string, password []byte, err error) // nil: none

	// Connect is what all CONNECT packets have in common: everything but the Client
	// Identifier, Clean Start, the credentials and the Authentication Method.
	Connect        paho.Connect
	WillProperties []byte        // encoded, for a Connect with a will; nil: no will
	Auth           Authenticator // nil: no enhanced authentication

	Identity *Identity
	Policy   *Policy
	Session  *session.Session
	// ResetSession makes the session in the store void, durably: the server has none.
	// Session.Unacked still returns what was in flight. An error ends the connection.
	ResetSession func() error
	// AdoptSession makes the session in the store void, durably, and records that the server's session
	// was adopted: its owner is AdoptedOwner. An error lets the session unknown.
	AdoptSession   func() error
	Observer       Observer
	Guard          *callback.Guard // marks the goroutine that reads; nil: none
	ConnectTimeout time.Duration   // of one attempt, from dialing to CONNACK
	WriteTimeout   time.Duration   // of one write to the connection
	AckTimeout     time.Duration   // without an acknowledgement while messages are in flight; also for SUBACK and UNSUBACK
}

// Observer receives what happens to the link, in order, on the goroutine of Run.
type Observer interface {
	// Connecting: an attempt begins; see End.Attempt.
	Connecting(server *url.URL, attempt int)
	// Connected runs while the connection is up, and must return soon after it ends.
	Connected(*Up)
	// Disconnected: a connection has ended, and Connected has returned.
	Disconnected(End, Decision)
	// ConnectFailed: an attempt has failed. One that ends Run is not reported.
	ConnectFailed(End, Decision)
}

// End is an attempt that failed, or a connection that ended.
type End struct {
	Server     *url.URL
	Err        error
	Attempt    int           // from 1, counted since the last connection
	Took       time.Duration // how long the attempt took, or how long the connection was up
	Up         *Up           // nil: the attempt failed
	Redirected bool          // Server is not in the list; another server referred to it
	Accepted   bool          // a server has accepted this client before, see Identity.Accepted
}

// TakenOver reports whether another client has taken the session over.
func (e *End) TakenOver() bool {
	var ended *DisconnectError
	return errors.As(e.Err, &ended) && ended.Reason == wire.ReasonSessionTakenOver
}

const (
	minUptime        = 5 * time.Second // of a connection whose server is tried first again
	minRetryInterval = time.Second     // between two delays that end early
)

// New returns a Link that is not connected.
func New(cfg Config) *Link { return &Link{cfg: cfg, retryNow: notify.New()} }

// Current returns the connection; nil while not connected.
func (l *Link) Current() *Up {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// NetworkChanged checks the connection with a PINGREQ, see Conn.Probe. Without a
// connection it makes the next attempt now and resets the delays.
func (l *Link) NetworkChanged() {
	if up := l.Current(); up != nil && up.Cause() == nil {
		up.Probe()
		return
	}
	l.cfg.Policy.Retry.Reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up == nil || l.up.Cause() != nil { // it may have connected meanwhile
		l.retryNow.Set()
	}
}

// NewSession ends the connection for this reason, and asks for a new session on the next one.
func (l *Link) NewSession(reason error) {
	l.cfg.Identity.discardSession()
	if up := l.Current(); up != nil {
		up.Fail(reason)
	}
}

// Run keeps the link up until ctx is done (it returns nil) or the Policy stops it (it
// returns the error). Then no connection is left, and no goroutine but paho.golang's.
func (l *Link) Run(ctx context.Context) error {
	if err := l.cfg.Identity.checkStore(); err != nil {
		return err
	}
	route := route{list: slices.Clone(l.cfg.Servers)}
	var last *url.URL // the server of the last connection
	var hurried time.Time
	for attempt := 1; ; attempt++ {
		end := End{Server: route.next(), Attempt: attempt, Redirected: route.redirect != nil}
		l.cfg.Observer.Connecting(end.Server, attempt)
		began := time.Now()
		end.Up, end.Err = l.connect(ctx, end.Server)
		end.Took = time.Since(began)
		if up := end.Up; up != nil {
			up.Attempt, up.Took, up.since = attempt, end.Took, time.Now()
			up.Resumed = up.Gen.Present && last == up.Server
			last = up.Server
			end.Err = l.serve(ctx, up)
			end.Took, attempt = up.Uptime(), 0
		}
		if ctx.Err() != nil {
			if end.Up != nil {
				l.cfg.Observer.Disconnected(end, Decision{Action: reliability.ActionStop})
			}
			return nil
		}
		if end.TakenOver() {
			l.cfg.Identity.discardSession() // the other client has used it
		}
		end.Accepted = l.cfg.Identity.Accepted()
		d := l.cfg.Policy.Decide(end)
		stop := d.Action == reliability.ActionStop
		if end.Up != nil {
			l.cfg.Observer.Disconnected(end, d)
		} else if !stop {
			l.cfg.Observer.ConnectFailed(end, d)
		}
		switch {
		case stop && end.Up != nil && end.Up.Disconnecting():
			return nil
		case stop:
			return end.Err
		}
		route.after(end, d)
		if !l.pause(ctx, d.Delay, &hurried) {
			return nil
		}
	}
}

// serve keeps a connection until it or ctx ends, and returns why it ended.
func (l *Link) serve(ctx context.Context, up *Up) error {
	stop := context.AfterFunc(ctx, func() { _ = up.Close() })
	defer stop()
	l.cfg.Policy.Retry.Up()
	l.cfg.Identity.connected(up)
	l.setUp(up)
	var using sync.WaitGroup
	using.Go(func() { l.cfg.Observer.Connected(up) })
	using.Go(up.watchAcks)
	<-up.failed
	l.cfg.Session.Detach(up.Gen)
	_ = up.Conn.Conn.Close()
	<-up.client.Done()
	up.endOutput()
	using.Wait()
	l.setUp(nil)
	l.cfg.Identity.disconnected(up)
	return up.Cause()
}

func (l *Link) setUp(up *Up) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up = up; up != nil {
		l.retryNow.Clear() // the attempt that it asked for has succeeded
	}
}

// pause waits for delay, or less after NetworkChanged. It reports whether ctx still runs.
func (l *Link) pause(ctx context.Context, delay time.Duration, hurried *time.Time) bool {
	timer, due := time.NewTimer(delay), time.Now().Add(delay)
	defer timer.Stop()
	for soon := false; ; {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return ctx.Err() == nil
		case <-l.retryNow:
			if soon {
				continue
			}
			// An application that asks at each failure must not cause a tight loop.
			soon = true
			wait := max(0, min(time.Until(hurried.Add(minRetryInterval)), time.Until(due)))
			*hurried = time.Now().Add(wait)
			timer.Reset(wait)
		}
	}
}

// route selects the next server.
type route struct {
	list     []*url.URL
	turn     int
	redirect *url.URL // a server that is not in the list; one of the list referred to it
}

func (r *route) next() *url.URL {
	if r.redirect != nil {
		return r.redirect
	}
	return r.list[r.turn%len(r.list)]
}

// after moves on: to where the server redirects to, to the same server if its connection
// was up for a while, because it has the session, or else to the next one.
func (r *route) after(end End, d Decision) {
	switch {
	case d.Redirect != nil && d.Permanent:
		r.list[r.turn%len(r.list)] = d.Redirect
	case d.Redirect != nil:
		r.redirect = d.Redirect
	case end.Up != nil && end.Took >= minUptime:
	case r.redirect != nil:
		r.redirect = nil
	default:
		r.turn++
	}
}
