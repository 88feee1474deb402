package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/status"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Client is an MQTT client with one session. New creates a client that already accepts messages.
// Start connects the client. Drain, Close, or the end of Start's context ends it. All methods are
// safe for concurrent use.
type Client struct {
	cfg      Config         // with defaults
	guard    callback.Guard // knows the goroutines that run functions of the application
	life     life
	reports  reports
	store    persistence.Store
	session  *session.Session
	link     *link.Link
	identity *link.Identity
	breaker  *reliability.Breaker
	outbox   *outbox.Outbox
	inbox    *inbox.Inbox[inbound]
	aside    *aside // nil without a list of set-aside messages
	router   router
	subs     *subs.Table
	views    views
	status   *status.Publisher
}

// New validates cfg, opens the store and returns a client that accepts messages. New returns a
// *ConfigError or an error of persistence.Open. If the disk does not answer, New
// can block indefinitely, because opening a file cannot be canceled.
func New(cfg Config) (*Client, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	c := &Client{}
	c.reports.findings = cfg.Lint()
	temporaryID := cfg.ClientID == ""
	cfg = cfg.withDefaults()
	c.functions().guardAll(&cfg)
	c.cfg, c.store = cfg, cfg.Store.Custom
	c.life.init()
	c.reports.init(c)
	made := false
	defer leaveNew(c, &made)
	c.subs = subs.New(subs.Config{Report: c.subscriptionResult, NoAnswer: ErrAckTimeout, Backoff: cfg.Publishing.RetryBackoff.Delay,
		Ending: c.life.ending, WaitEnded: func(cause error) error { return waitEnded(cause, c.State().Err) }})
	c.router.init()
	c.status = c.newStatus()
	c.views.init(c.subs, &c.router, cfg.Presence.MarkerTopic, viewObserver{c})
	var outages storeOutages
	if c.store == nil {
		if err := c.openStore(&outages); err != nil {
			return nil, err
		}
	}
	c.identity = link.NewIdentity(link.IdentityConfig{
		ClientID:   cfg.ClientID,
		Temporary:  temporaryID,                // the session ends with the client
		Expiry:     max(cfg.Session.Expiry, 0), // NoSession is negative
		CleanStart: cfg.Session.CleanStart,
		Strict:     cfg.Session.Mode == StrictSession,
		Store:      c.store,
	})
	c.breaker = c.newBreaker()
	c.outbox = outbox.New(outbox.Config{
		Store:            c.store,
		Breaker:          c.breaker,
		WhenFull:         outbox.FullPolicy(cfg.Store.WhenFull),
		StoreDrops:       cfg.Store.Custom != nil || cfg.Store.WhenFull == DropOldest, // a custom store may have any policy
		DeadLetters:      cfg.Store.DeadLetters > 0,
		OnSessionLost:    cfg.Session.OnLost,
		PoisonAttempts:   cfg.Publishing.PoisonAttempts,
		Rules:            cfg.Publishing.rules(),
		Retry:            cfg.Publishing.RetryBackoff,
		MaxDeferred:      cfg.Store.Options.Limits.WithDefaults().MaxMessages / 2,
		MaxDeferredBytes: cfg.Store.Options.Limits.WithDefaults().MaxBytes / 2,
		Unnumbered:       unnumbered(c),
		MaxAge:           cfg.Store.Options.Limits.MaxAge,
		Describe:         endError,
		Ended:            c.messageEnded,
		Deferred:         c.refusedForNow,
		StoreFailed:      c.storeFailed,
		Stuck:            c.sessionStuck,
		PurgeFailed:      c.purgeFailed,
		SentLost:         sentLost(c.store),
		Adopted:          adopted(c.store),
	})
	c.session = session.New(session.Config{
		Store:             c.store,
		ReceiveMaximum:    cfg.Receiving.ReceiveMaximum,
		TopicAliasMaximum: cfg.Receiving.TopicAliasMaximum,
		TopicAliases:      uint16(cfg.Publishing.TopicAliases),
		PoisonAttempts:    cfg.Publishing.PoisonAttempts,
		Settled:           c.outbox.Acknowledged,
		Deliver:           receiver{c}.receive,
		Room:              c.outbox.Wake,
		Outage:            func(err error) bool { return errors.Is(err, persistence.ErrDegraded) },
	})
	var err error
	if c.aside, err = openAside(&cfg, c.asideCorrupted); err != nil {
		return nil, errors.Join(err, c.closeStore())
	}
	c.inbox = receiver{c}.newInbox()
	if c.link, err = c.newLink(); err != nil {
		return nil, errors.Join(err, c.aside.close(), c.closeStore())
	}
	made = true
	outages.composed(c)
	return c, nil
}

// functions returns the guard of the application's functions. The guard reports failures on a
// separate goroutine, because the caller may hold locks and the application's slog.Handler may call
// the client.
func (c *Client) functions() functions {
	return functions{&c.guard, func(name string, p *callback.Panic) { go c.panicked(name, p) }}
}

// newBreaker returns a breaker that reports its changes as events too.
func (c *Client) newBreaker() *reliability.Breaker {
	o := c.cfg.Publishing.Breaker
	o.RecoveryTimeout = cmp.Or(o.RecoveryTimeout, time.Minute)
	onChange := o.OnStateChange
	o.OnStateChange = func(from, to reliability.State) {
		if onChange != nil {
			c.reports.notices.add(notice{"OnStateChange", func() { onChange(from, to) }, nil})
		}
		e := BreakerChanged{From: from.String(), To: to.String()}
		if to == reliability.Open {
			report(c, lossBreaker, about(MessageID{}, nil, slog.String("from", e.From), slog.Duration("retry_in", o.RecoveryTimeout)), e)
		} else {
			c.event(e)
		}
	}
	return reliability.NewBreaker(o)
}

func (c *Client) openStore(outages *storeOutages) error {
	options := c.cfg.Store.Options
	options.Limits.WhenFull = storePolicies[c.cfg.Store.WhenFull]
	if c.cfg.Store.DeadLetters > 0 {
		options.Retention.MaxDeadLetters = c.cfg.Store.DeadLetters
	}
	if c.cfg.Dir == "" {
		c.store = persistence.NewMemory(options)
		return nil
	}
	onCorruption := options.OnCorruption
	options.OnCorruption = func(x persistence.Corruption) {
		if onCorruption != nil {
			c.reports.notices.add(notice{"OnCorruption", func() { onCorruption(x) }, nil})
		}
		c.corrupted(x)
	}
	onDegraded := options.OnDegraded
	options.OnDegraded = func(err *persistence.DegradedError) {
		if onDegraded != nil {
			c.reports.notices.add(notice{"OnDegraded", func() { onDegraded(err) }, nil})
		}
		outages.report(c, err)
	}
	log, err := persistence.Open(c.cfg.Dir, options)
	if err != nil {
		return err
	}
	c.store = log
	return nil
}

// run starts a goroutine that may call functions of the application.
func (c *Client) run(group *sync.WaitGroup, f func()) {
	group.Go(func() {
		defer c.guard.Enter()()
		f()
	})
}

// AwaitConnection waits until the client is connected. AwaitConnection may be called before Start.
// If ctx ends, the error contains the cause of ctx and the error of the last attempt to connect. If
// the client stops, the error is the reason why it stopped.
//
// AwaitConnection does not wait for subscriptions, see Subscription.Wait. On the new connection, the client sends
// subscriptions made earlier, and then stored messages. A later call of Subscribe waits for the
// server's answer.
func (c *Client) AwaitConnection(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	for {
		changed := c.life.phase.changed.Changed()
		if c.State().Phase == PhaseConnected {
			return nil
		}
		select {
		case <-changed:
		case <-c.life.ending.Done():
			return context.Cause(c.life.ending)
		case <-ctx.Done():
			return waitEnded(context.Cause(ctx), c.State().Err)
		}
	}
}

// Connected reports whether the client is connected now.
func (c *Client) Connected() bool { return c != nil && c.link.Current() != nil }

// Done returns a channel that is closed when the client and all its goroutines have ended.
func (c *Client) Done() <-chan struct{} {
	if c == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return c.life.done
}

// Err returns why the client stopped: the fatal error, or the cause that ended Start's context. Err
// returns nil while the client runs, and after Close and Drain.
func (c *Client) Err() error {
	if c == nil {
		return ErrNilClient
	}
	c.life.mu.Lock()
	defer c.life.mu.Unlock()
	return c.life.err
}

// ClientID returns the client identifier, which is the configured one or a random one. With
// SessionConfig.AssignedClientID it is empty until the first CONNACK assigns it.
func (c *Client) ClientID() string {
	if c == nil {
		return ""
	}
	return c.identity.ClientID()
}

// State returns the present state of the connection.
func (c *Client) State() ConnectionState {
	if c == nil {
		return ConnectionState{Phase: PhaseEnded, Err: ErrNilClient}
	}
	return c.life.phase.get()
}

// Format prints the client identifier and the phase of the connection for every verb, because the
// configuration may contain secrets.
func (c *Client) Format(to fmt.State, _ rune) {
	switch {
	case to == nil:
	case c == nil:
		_, _ = io.WriteString(to, "client <nil>")
	default:
		_, _ = fmt.Fprintf(to, "client %q (%v)", c.ClientID(), c.State().Phase)
	}
}
