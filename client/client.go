package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/subs"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Client is one MQTT client with one session. New makes it, and from then on
// Publish accepts messages; Start connects it; Drain, Close or the end of
// Start's context end it. All methods are safe for concurrent use.
type Client struct {
	cfg      Config
	store    persistence.Store
	ownStore bool
	clock    clock

	session  *session.Session
	link     *link.Link
	identity *link.Identity
	phase    phaseTracker
	breaker  *reliability.Breaker
	outbox   *outbox.Outbox
	router   router
	subs     *subs.Table
	views    views
	inbox    *inbox.Inbox[*Message]

	// publishers are the names that messages are numbered under, by priority.
	publishers [persistence.Priorities]string

	retainAsPublished atomic.Bool // of any subscription

	guard    callback.Guard // which goroutines are inside functions of the application
	mu       sync.Mutex
	state    lifecycle
	farewell DisconnectOptions // of a clean end
	err      error             // why the client stopped

	stopLink  context.CancelFunc
	stopDrain context.CancelFunc
	stopAcks  context.CancelFunc
	linking   sync.WaitGroup  // link.Run
	work      sync.WaitGroup  // drainer
	answering sync.WaitGroup  // acknowledgements
	done      chan struct{}   // closed when all has ended
	ending    context.Context // ends when the end begins
	beginEnd  context.CancelCauseFunc
	endBy     time.Time // when CloseTimeout is over; of teardown

	storeErr  error // of closing the store, under mu
	announcer announcer
	told      atomic.Bool // Stopped
	findings  []Finding   // of Config.Lint
	counters  counters
}

// lifecycle only ever moves forward.
type lifecycle int

const (
	fresh lifecycle = iota
	running
	draining
	closing
	closed
)

// New checks cfg, opens the store and returns a client that accepts messages.
// Errors: *ConfigError, and those of persistence.Open.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	findings := cfg.Lint()
	temporaryID := cfg.ClientID == ""
	cfg = cfg.withDefaults()
	c := &Client{
		cfg:   cfg,
		store: cfg.Store.Custom,
		clock: newClock(),
		done:  make(chan struct{}),
	}
	c.phase.enter(ConnectionState{Phase: PhaseIdle})
	c.announcer.init(&c.cfg)
	c.findings = findings
	c.subs = subs.New(subs.Config{Report: c.subscriptionResult, NoAnswer: ErrAckTimeout})
	c.views.init(c)
	c.ending, c.beginEnd = context.WithCancelCause(context.Background())
	for p, suffix := range streamSuffixes {
		c.publishers[p] = cfg.Publishing.Publisher + suffix
	}
	if c.store == nil {
		if err := c.openStore(); err != nil {
			return nil, err
		}
	}
	c.identity = c.newIdentity(temporaryID)
	breaker := cfg.Publishing.Breaker
	told := breaker.OnStateChange
	breaker.OnStateChange = func(from, to reliability.State) {
		if told != nil {
			told(from, to)
		}
		c.event(BreakerChanged{From: from.String(), To: to.String()})
	}
	c.breaker = reliability.NewBreaker(breaker)
	c.outbox = outbox.New(outbox.Config{
		Store:          c.store,
		Breaker:        c.breaker,
		WhenFull:       outbox.FullPolicy(cfg.Store.WhenFull),
		StoreDrops:     cfg.Store.Custom != nil || cfg.Store.WhenFull == DropOldest, // a custom store may have any policy
		DeadLetters:    cfg.Store.DeadLetters > 0,
		OnSessionLost:  cfg.Session.OnLost,
		PoisonAttempts: cfg.Publishing.PoisonAttempts,
		MaxAge:         cfg.Store.Options.Limits.MaxAge,
		Describe:       endError,
		Ended:          c.messageEnded,
		StoreFailed:    c.storeFailed,
	})
	c.session = session.New(session.Config{
		Store:             c.store,
		ReceiveMaximum:    cfg.Receiving.ReceiveMaximum,
		TopicAliasMaximum: cfg.Receiving.TopicAliasMaximum,
		TopicAliases:      uint16(cfg.Publishing.TopicAliases),
		Settled:           c.outbox.Acknowledged,
		Deliver:           c.receive,
		Room:              c.outbox.Wake,
	})
	c.inbox = c.newInbox()
	var err error
	c.link, err = c.newLink()
	return c, err
}

func (c *Client) openStore() error {
	c.ownStore = true
	options := c.cfg.Store.Options
	options.Limits.WhenFull = storePolicies[c.cfg.Store.WhenFull]
	if c.cfg.Store.DeadLetters > 0 {
		options.Retention.MaxDeadLetters = c.cfg.Store.DeadLetters
	}
	if c.cfg.Dir == "" {
		c.store = persistence.NewMemory(options)
		return nil
	}
	told := options.OnCorruption
	options.OnCorruption = func(x persistence.Corruption) {
		if told != nil {
			told(x)
		}
		c.corrupted(x)
	}
	log, err := persistence.Open(c.cfg.Dir, options)
	if err != nil {
		return err
	}
	c.store = log
	return nil
}

// Start connects, and reconnects until the client ends. It returns at once;
// AwaitConnection waits. Errors: ErrStarted, ErrClosed, ErrNilClient.
//
// When ctx ends, the client closes as Close does: running handlers finish, the
// status goes offline, the server gets a DISCONNECT, and pending messages stay in
// the store. Wait for Done before the process exits. A ctx that is canceled with
// the cause ErrAbort ends the client without DISCONNECT, so that the server
// publishes the will.
//
// Failed connections and other problems are reported to Config.OnEvent,
// Config.Logger and State. A client that gives up closes Done; Err returns why.
func (c *Client) Start(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == running:
		return ErrStarted
	case c.state != fresh:
		return ErrClosed
	}
	c.state = running
	linkCtx, stopLink := context.WithCancel(context.Background())
	drainCtx, stopDrain := context.WithCancel(context.Background())
	ackCtx, stopAcks := context.WithCancel(context.Background())
	c.stopLink, c.stopDrain, c.stopAcks = stopLink, stopDrain, stopAcks

	c.inbox.Start()
	c.run(&c.work, func() { c.outbox.Run(drainCtx) })
	c.run(&c.answering, func() { c.session.RunAcks(ackCtx) })
	c.run(&c.linking, func() {
		c.logFindings()
		if err := c.link.Run(linkCtx); err != nil {
			c.fail(connectionError(err))
		}
	})
	stop := context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, ErrAbort) {
			c.abort(cause)
		} else {
			c.end(cause, &DisconnectOptions{})
		}
	})
	go func() {
		<-c.done
		stop()
	}()
	return nil
}

// run starts a goroutine that may call functions of the application.
func (c *Client) run(group *sync.WaitGroup, f func()) {
	group.Go(func() {
		defer c.guard.Enter()()
		f()
	})
}

// AwaitConnection waits until the client is connected. The error is ctx's, or
// why the client stopped. Before Start it waits for that too.
//
// It does not wait for subscriptions: those declared before are made right behind
// the connection, and before this client's own messages leave. Where another client
// must find a subscription made, call Subscribe after AwaitConnection: it waits for
// the server's answer then.
func (c *Client) AwaitConnection(ctx context.Context) error {
	if c == nil {
		return ErrNilClient
	}
	for {
		changed := c.phase.changed.Changed()
		if c.State().Phase == PhaseConnected {
			return nil
		}
		select {
		case <-changed:
		case <-c.ending.Done():
			return context.Cause(c.ending)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Connected reports whether there is a connection now.
func (c *Client) Connected() bool { return c != nil && c.current() != nil }

// Done returns a channel that is closed when the client and all its goroutines
// have ended.
func (c *Client) Done() <-chan struct{} {
	if c == nil {
		return closedChannel
	}
	return c.done
}

// closedChannel is Done of a nil Client.
var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Err returns why the client stopped: the fatal error, or the cause of the end of
// Start's context. It is nil while the client runs and after Close and Drain.
func (c *Client) Err() error {
	if c == nil {
		return ErrNilClient
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ClientID is the client identifier: the configured one, or the one made up. With
// Config.Session.AssignedClientID it is empty until the server has named us, and then stays
// the same.
func (c *Client) ClientID() string {
	if c == nil {
		return ""
	}
	return c.identity.ClientID()
}

// event tells e, unless Stopped was told: that is the last.
func (c *Client) event(e Event) {
	if c.cfg.OnEvent == nil || c.told.Load() {
		return
	}
	if _, last := e.(Stopped); last {
		c.told.Store(true)
	}
	if p := c.guard.Call(func() { c.cfg.OnEvent(e) }); p != nil {
		c.cfg.Logger.Error("function of the application panicked", "function", "OnEvent", "panic", p.Value, "stack", string(p.Stack))
	}
}

// clock is the time since the start, which no step of the wall clock moves. What
// is stored counts by the store's clock.
type clock struct{ start time.Time }

func newClock() clock { return clock{time.Now()} }

func (c clock) since() int64 { return int64(time.Since(c.start)) }
