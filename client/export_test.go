package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/retained"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// This file exports internals to the tests of package client_test.

const (
	PropID        = propID
	PropPublisher = propPublisher
	PropEpoch     = propEpoch
	PropSeq       = propSeq
)

type LintRule = lintRule

var (
	LintRules             = lintRules
	IdentifiesFiles       = &identifiesFiles
	ErrNoneToAuthenticate = errNoneToAuthenticate
	ToConnectionError     = connectionError
	Received              = received
)

// LossKind is a row of lossKinds.
type LossKind struct {
	Name, Text string
	Event      Event
	Counter    string
}

// LossKinds is the table of reported losses.
var LossKinds = func() (all []LossKind) {
	for _, k := range lossKinds {
		all = append(all, LossKind{k.name, k.text, k.event, k.counter})
	}
	return all
}()

// Abort ends a client like the end of its process.
func Abort(c *Client, cause error) { c.end(cause, nil) }

func Started(c *Client) bool {
	c.life.mu.Lock()
	defer c.life.mu.Unlock()
	return c.life.started
}

// Settings returns the configuration with defaults.
func Settings(c *Client) Config { return c.cfg }

func (c Config) WithDefaults() Config { return c.withDefaults() }

func (c *Config) Dialer() (*link.Dialer, error) { return c.dialer(new(callback.Guard)) }

func StoreOf(c *Client) persistence.Store { return c.store }

func AsksRetainAsPublished(c *Client, filter string) bool {
	to := c.router.get(filter)
	return to != nil && to.Value.asPublished()
}

// Fetches returns the number of fetches of retained messages.
func Fetches(c *Client) uint64 {
	c.views.mu.Lock()
	defer c.views.mu.Unlock()
	return c.views.machine.Fetches
}

// AddView adds a view without a reader.
func AddView(c *Client, filter string) ([]retained.Action, error) {
	return c.views.machine.Add(&retained.View{Filter: filter})
}

func (w *Will) Packet() wire.Publish { return w.packet() }

func NewDelivery(timeout time.Duration) *Delivery { return &Delivery{timeout: timeout} }

func (d *Delivery) Waiter() *outbox.Waiter { return &d.waiter }
