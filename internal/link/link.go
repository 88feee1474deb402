package link

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Link keeps one connection to one of several servers. It connects, and reconnects when the
// connection ends, until its context ends or the Policy stops it. All methods are safe for
// concurrent use. Run must be called exactly once.
type Link struct {
	cfg      Config
	retryNow notify.Signal // ends a delay early

	mu sync.Mutex
	up *Up // nil: not connected
}

// Config configures a Link.
type Config struct {
	Servers     []*url.URL // see route
	Dial        func(ctx context.Context, server *url.URL) (net.Conn, error)
	Credentials func(ctx context.Context, server *url.URL) (username string, password []byte, err error) // nil: no credentials

	// Connect holds the parts that all CONNECT packets share: everything except the Client
	// Identifier, Clean Start, the credentials and the Authentication Method.
	Connect        paho.Connect
	WillProperties []byte        // encoded; nil: Connect has no will
	Auth           Authenticator // nil: no enhanced authentication

	Identity *Identity
	Policy   *Policy
	Session  *session.Session
	// ResetSession durably marks the session in the store as void, because the server has no
	// session. Session.Unacked still returns the messages that were in flight. An error ends the
	// connection.
	ResetSession func() error
	// AdoptSession durably marks the session in the store as void, and records AdoptedOwner as the
	// owner of the server's session. After an error, the session stays unknown.
	AdoptSession   func() error
	Observer       Observer
	Guard          *callback.Guard // marks the reader's goroutine; may be nil
	ConnectTimeout time.Duration   // for one attempt, from dialing to CONNACK
	WriteTimeout   time.Duration   // for one write to the connection
	AckTimeout     time.Duration   // maximum time without an acknowledgement while messages are in flight; also for SUBACK and UNSUBACK
}

// Observer receives the events of the link in order, on the goroutine of Run.
type Observer interface {
	// Connecting is called when an attempt begins. See End.Attempt.
	Connecting(server *url.URL, attempt int)
	// Connected runs while the connection is up, and must return soon after the connection ends.
	Connected(*Up)
	// Disconnected is called when a connection has ended and Connected has returned.
	Disconnected(End, Decision)
	// ConnectFailed is called when an attempt has failed, unless the failure ends Run.
	ConnectFailed(End, Decision)
}

// End describes a failed attempt or the end of a connection.
type End struct {
	Server     *url.URL
	Err        error
	Attempt    int           // from 1; counts attempts since the last connection
	Took       time.Duration // duration of the attempt, or of the connection
	Up         *Up           // nil: the attempt failed
	Redirected bool          // Server is not in the list, but another server redirected to it
	Accepted   bool          // a server has accepted this client before; see Identity.Accepted
}

// TakenOver reports whether another client has taken over the session.
func (e *End) TakenOver() bool {
	var ended *DisconnectError
	return errors.As(e.Err, &ended) && ended.Reason == wire.ReasonSessionTakenOver
}

// minRetryInterval is the minimum time between two delays that end early.
const minRetryInterval = time.Second

// New returns a Link that is not connected.
func New(cfg Config) *Link {
	cfg.Policy.route = newRoute(cfg.Servers)
	return &Link{cfg: cfg, retryNow: notify.New()}
}

// Current returns the connection, or nil if the link is not connected.
func (l *Link) Current() *Up {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// NetworkChanged checks the connection with a PINGREQ; see Conn.Probe. Without a connection, it
// starts the next attempt now, at any server, and resets the delays.
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

// NewSession ends the connection with the given reason, and requests a new session on the next one.
func (l *Link) NewSession(reason error) {
	l.cfg.Identity.discardSession()
	if up := l.Current(); up != nil {
		up.Fail(reason)
	}
}

// Run keeps the link up. It returns nil when ctx ends, or the error when the Policy stops the link.
// When Run returns, the connection is closed, and only paho.golang's goroutines may still run.
func (l *Link) Run(ctx context.Context) error {
	if err := l.cfg.Identity.checkStore(); err != nil {
		return err
	}
	policy := l.cfg.Policy
	var last *url.URL // server of the last connection
	var hurried time.Time
	for attempt := 1; ; attempt++ {
		end := End{Server: policy.Next(), Attempt: attempt}
		end.Redirected = !policy.route.lists(end.Server)
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
		d := policy.Decide(end)
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
		early := l.pause(ctx, d.Delay, &hurried)
		if ctx.Err() != nil {
			return nil
		}
		if early {
			policy.RetryNow()
		}
	}
}

// serve keeps a connection until the connection or ctx ends, and returns the cause.
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
		l.retryNow.Clear() // the requested attempt has succeeded
	}
}

// pause waits for delay, or less after NetworkChanged or the end of ctx. It returns whether
// NetworkChanged has ended the delay. lastEarly is the last time a delay ended early.
func (l *Link) pause(ctx context.Context, delay time.Duration, lastEarly *time.Time) (early bool) {
	if delay == 0 { // NetworkChanged applies to the next delay
		return false
	}
	timer, due := time.NewTimer(delay), time.Now().Add(delay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return early
		case <-timer.C:
			return early
		case <-l.retryNow:
			if early {
				continue
			}
			// Prevent a tight loop if the application calls NetworkChanged after each failure.
			early = true
			wait := max(0, min(time.Until(lastEarly.Add(minRetryInterval)), time.Until(due)))
			*lastEarly = time.Now().Add(wait)
			timer.Reset(wait)
		}
	}
}
