package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// newLink returns the link of a client whose store and session exist.
func (c *Client) newLink() (*link.Link, error) {
	conn := &c.cfg.Connection
	conf := link.Config{
		Connect:        c.connectPacket(),
		Credentials:    credentials(conn, &c.guard),
		Dial:           conn.Dial,
		ConnectTimeout: conn.ConnectTimeout,
		WriteTimeout:   conn.WriteTimeout,
		AckTimeout:     conn.AckTimeout,
		Auth:           conn.Auth,
		Session:        c.session,
		ResetSession:   c.beginSession,
		AdoptSession:   c.adoptSession,
		Identity:       c.identity,
		Observer:       linkObserver{c},
		Guard:          &c.guard,
		Policy: &link.Policy{
			Retry:            reliability.Retry{Backoff: conn.Backoff, Stable: conn.StableAfter},
			StopOn:           link.StopOn(conn.StopOn.When),
			StopCodes:        conn.StopOn.stopCodes(),
			FreshCredentials: conn.Credentials != nil,
			StopOnTakeover:   c.cfg.Session.OnTakeover == TakeoverStop || c.cfg.Session.Mode == StrictSession,
			IgnoreRedirects:  conn.IgnoreRedirects,
		},
	}
	for _, s := range c.cfg.Servers {
		u, err := link.ParseServer(s)
		if err != nil {
			return nil, err
		}
		conf.Servers = append(conf.Servers, u)
	}
	if conf.Dial == nil {
		dialer, err := c.cfg.dialer(&c.guard)
		if err != nil {
			return nil, err
		}
		conf.Dial = c.functions().dial(dialer.Dial)
	}
	if w := c.cfg.Presence.Will; w != nil {
		conf.WillProperties = w.properties()
	}
	return link.New(conf), nil
}

// connectPacket returns the common part of all CONNECT packets of the client.
func (c *Client) connectPacket() paho.Connect {
	expiry := wire.Seconds(c.cfg.Session.Expiry)
	cp := paho.Connect{
		KeepAlive: uint16(min(wire.Seconds(max(c.cfg.Connection.KeepAlive, 0)), 65_535)), // NoKeepAlive is negative
		Properties: &paho.ConnectProperties{
			SessionExpiryInterval: &expiry,
			ReceiveMaximum:        &c.cfg.Receiving.ReceiveMaximum,
			MaximumPacketSize:     &c.cfg.Connection.MaximumPacketSize,
			TopicAliasMaximum:     &c.cfg.Receiving.TopicAliasMaximum,
			RequestProblemInfo:    true,
		},
	}
	for _, p := range c.cfg.Connection.UserProperties {
		cp.Properties.User.Add(p.Key, p.Value)
	}
	if w := c.cfg.Presence.Will; w != nil {
		cp.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: byte(w.QoS), Retain: w.Retain}
		cp.WillProperties = &paho.WillProperties{}
	}
	return cp
}

// linkObserver receives the events of the link. It updates state, counters, events and log, and
// starts the tasks of each connection.
type linkObserver struct{ *Client }

func (c linkObserver) Connecting(server *url.URL, attempt int) {
	c.life.phase.enter(ConnectionState{Phase: PhaseConnecting, Server: link.Redacted(server), Attempt: attempt, Err: c.State().Err})
	c.event(Connecting{Server: link.Redacted(server), Attempt: attempt})
}

func (c linkObserver) ConnectFailed(end link.End, d link.Decision) {
	server, err := link.Redacted(end.Server), connectionError(end.Err)
	c.life.phase.enter(ConnectionState{Phase: PhaseWaiting, Server: server, Attempt: end.Attempt, Err: err, RetryAt: time.Now().Add(d.Delay)})
	failed := ConnectFailed{Server: server, Err: err, Attempt: end.Attempt, Took: end.Took, Action: d.Action, Delay: d.Delay}
	kind := lossConnect
	switch {
	case errors.Is(err, ErrSessionAdopted):
		report(c.Client, lossAdopted, about(MessageID{}, nil, slog.String("server", server), slog.Uint64("pending", c.store.Stats().Pending)),
			SessionAdopted{Server: server})
		c.event(failed)
		return
	case errors.Is(err, ErrUnknownSession):
		kind = lossUnknownSession
	}
	report(c.Client, kind, about(MessageID{}, end.Err, slog.String("server", server), slog.Int("attempt", end.Attempt), slog.Duration("took", end.Took), slog.Duration("retry_in", d.Delay)), failed)
	if d.Delay >= longDelay {
		c.reports.losses.Flush(int(lossConnect))
	}
	c.redirected(end, d)
}

// longDelay is the shortest delay before which each failed attempt is logged at once.
const longDelay = 30 * time.Second

// Connected starts the tasks of a connection. It first resends unacknowledged unstored messages and
// publishes the online status, and then subscribes. Stored messages follow once up is Ready.
func (c linkObserver) Connected(up *link.Up) {
	defer c.guard.Enter()()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := link.Redacted(up.Server)
	c.reports.connections.Add(1)
	c.subs.Attach(up)
	var using sync.WaitGroup
	c.run(&using, func() {
		c.views.connected(up, c.ClientID())
		c.subs.Run(ctx, up)
		c.views.disconnected()
	})
	c.life.phase.enter(ConnectionState{Phase: PhaseConnected, Server: server, Attempt: up.Attempt})
	c.inbox.Connected()
	c.reports.losses.Flush(int(lossConnect)) // the first failure of the next outage is logged at once
	c.log(slog.LevelInfo, "connected", slog.String("server", server), slog.Int("attempt", up.Attempt), slog.Duration("took", up.Took), slog.Bool("session_present", up.Gen.Present))
	c.event(Connected{Server: server, SessionPresent: up.Gen.Present, Attempt: up.Attempt, Took: up.Took,
		ClientID: c.ClientID(), KeepAlive: up.KeepAlive, SessionExpiry: up.SessionExpiry})
	if err := up.Gen.ResendUnstored(); err == nil {
		c.status.Birth(statusConnection{up})
	}
	up.Ready.Set()
	c.run(&using, func() { c.startSending(up) })
	c.run(&using, func() { c.status.Run(ctx, statusConnection{up}) })
	<-up.Failed()
	cancel()
	using.Wait()
}

// subscribeFirst is how long stored messages wait on a new connection for the SUBACKs.
const subscribeFirst = time.Second

// startSending starts sending stored messages after the subscriptions were made, so that the client
// receives the messages that it publishes itself. If the server does not answer, sending starts
// after subscribeFirst.
func (c *Client) startSending(up *link.Up) {
	select {
	case <-up.Subscribed.Done():
	case <-time.After(subscribeFirst - up.Uptime()):
	case <-up.Failed():
		return
	}
	c.outbox.Connected(up.Gen)
}

func (c linkObserver) Disconnected(end link.End, d link.Decision) {
	server, err := link.Redacted(end.Server), connectionError(end.Err)
	c.life.phase.disconnected()
	var ended *link.DisconnectError
	var violation *wire.Error
	reason := byte(0)
	if errors.As(end.Err, &ended) {
		reason = ended.Reason
	} else if errors.As(end.Err, &violation) {
		reason = wire.ReasonUnspecifiedError // the client ended the connection, perhaps because of an invalid answer to a message
	}
	c.outbox.Disconnected(end.Up.Gen, reason)
	if end.TakenOver() {
		// The other client has used the session, so the stored state is invalid and packet
		// identifiers may be in use. The owner is stored for the next process.
		if err := c.outbox.ResetSession(link.OwnerTakenOver, c.session.Unacked()); err != nil {
			c.storeFailed(err)
		}
	}
	byServer := (*ConnectionError)(nil)
	if c.life.ending.Err() != nil && errors.Is(err, net.ErrClosed) || end.Up.Disconnecting() && !errors.As(err, &byServer) {
		err = nil // the client ended the connection, even if the server closed it first
	}
	next := ConnectionState{Phase: PhaseWaiting, Server: server, Err: err, RetryAt: time.Now().Add(d.Delay)}
	if d.Action == reliability.ActionStop {
		next.Phase, next.RetryAt = PhaseEnding, time.Time{}
	}
	c.life.phase.enter(next)
	if err == nil && c.life.ending.Err() != nil {
		c.log(slog.LevelInfo, "disconnected", slog.String("server", server), slog.Duration("after", end.Took), slog.String("reason", "closed by the application"))
	} else {
		c.log(slog.LevelInfo, "disconnected", slog.String("server", server), slog.Duration("after", end.Took), slog.Any("error", err), slog.Duration("retry_in", d.Delay))
	}
	c.event(Disconnected{Server: server, Err: err, After: end.Took, Action: d.Action, Delay: d.Delay})
	if n := end.Up.Unsent(); n > 0 {
		c.reports.lostQoS0.Add(uint64(n))
		report(c.Client, lossUnsent, about(MessageID{}, end.Err, slog.String("server", server), slog.Int("messages", n)), QoS0Lost{Messages: n, Err: connectionError(end.Err)})
	}
	c.redirected(end, d)
}

// redirected reports the server to which a Server Reference leads.
func (c linkObserver) redirected(end link.End, d link.Decision) {
	if d.Redirect != nil {
		c.event(Redirected{From: link.Redacted(end.Server), To: link.Redacted(d.Redirect), Permanent: d.Permanent})
	}
}

// NetworkChanged tells the client that the network is available again or has changed. If the client
// is waiting for its next attempt, it connects at once and resets its backoff.
//
// If the client is connected, it sends a PINGREQ. If nothing arrives within half the keep alive or
// 5 s, whichever is shorter, the client ends the connection with ErrKeepAlive and reconnects. The
// client sends no PINGREQ if the keep alive is 0 (NoKeepAlive). Several calls within 1 s count as
// one. NetworkChanged never blocks.
func (c *Client) NetworkChanged() {
	if c != nil {
		c.link.NetworkChanged()
	}
}

// beginSession invalidates the stored session after the server has lost it, and reports the
// messages that were in flight.
func (c *Client) beginSession() error {
	if err := c.outbox.ResetSession(c.ClientID(), c.session.Unacked()); err != nil {
		return err
	}
	server := c.State().Server // the server that has sent CONNACK
	if lost := c.outbox.NewSession(); lost != (outbox.Lost{}) || c.identity.Expected() {
		report(c, lossSession, about(MessageID{}, nil, slog.String("server", server), slog.Int("republished", lost.Republished), slog.Int("failed", lost.Failed)),
			SessionLost{Server: server, InFlight: lost.Republished + lost.Failed, Republished: lost.Republished, Failed: lost.Failed})
	}
	return nil
}

// adoptSession invalidates the session in the store. It records that the client resumes the
// server's session, whose state is unknown.
func (c *Client) adoptSession() error {
	if err := c.outbox.AdoptSession(link.AdoptedOwner(c.ClientID()), c.session.Unacked()); err != nil {
		return err
	}
	c.session.Adopt()
	server := c.State().Server // the server that has sent CONNACK
	if lost := c.outbox.NewSession(); lost != (outbox.Lost{}) {
		report(c, lossSession, about(MessageID{}, nil, slog.String("server", server), slog.Int("republished", lost.Republished), slog.Int("failed", lost.Failed)),
			SessionLost{Server: server, InFlight: lost.Republished + lost.Failed, Republished: lost.Republished, Failed: lost.Failed})
	}
	return nil
}

// purgeFailed reports the number of packet identifiers that the server may still hold.
func (c *Client) purgeFailed(n int) {
	report(c, lossPurge, about(MessageID{}, nil, slog.Int("packet_identifiers", n)), PurgeGivenUp{PacketIDs: n})
}

// sessionStuck reports that only a new session makes the server accept messages. It begins a new
// session if the policy selects that.
func (c *Client) sessionStuck() {
	policy := c.cfg.Session.OnStuck
	renew := policy == StuckRenew || policy == StuckRenewIfUnsubscribed && !c.subs.Receives()
	report(c, lossStuck, about(MessageID{}, nil, slog.Bool("new_session", renew), slog.Uint64("pending", c.store.Stats().Pending)), SessionStuck{NewSession: renew})
	if renew {
		c.link.NewSession(ErrSessionStuck)
	}
}

// dialer returns the built-in dialer.
func (c *Config) dialer(guard *callback.Guard) (*link.Dialer, error) {
	proxy, err := link.ParseProxy(c.Connection.Proxy)
	d := &link.Dialer{Proxy: proxy, TLS: c.TLS.Clone(), Files: c.files(), Request: webSocketRequests(c.Connection.WebSocketRequest, guard)}
	return d, err
}
