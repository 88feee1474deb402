package client

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// linkConfig connects the link to the client.
func (c *Client) linkConfig() *link.Config {
	conf := &link.Config{
		Servers:           c.servers,
		Dial:              c.cfg.Connection.Dial,
		Connect:           c.connectPacket,
		ConnectTimeout:    c.cfg.Connection.ConnectTimeout,
		WriteTimeout:      c.cfg.Connection.WriteTimeout,
		PacketTimeout:     c.cfg.Connection.AckTimeout,
		MaximumPacketSize: c.cfg.Connection.MaximumPacketSize,
		Session:           c.session,
		Guard:             &c.guard,
		Auth:              c.cfg.Connection.Auth,
		Decide:            c.decide,
		Hurry:             c.hurry,
		Accept:            c.acceptSession,
		Assigned:          func(id string) { c.assigned.Store(&id) },
		Attempt: func(server *url.URL, attempt int) {
			c.enter(ConnectionState{Phase: PhaseConnecting, Server: server.Redacted(), Attempt: attempt, Err: c.State().Err})
			c.event(Connecting{Server: server.Redacted(), Attempt: attempt})
		},
		Up:     c.connected,
		Down:   c.disconnected,
		Failed: c.connectFailed,
	}
	if conf.Dial == nil {
		conf.Dial = c.dialer.Dial
	}
	if c.cfg.Presence.Will != nil {
		conf.WillProperties = c.cfg.Presence.Will.properties()
	}
	return conf
}

// connectPacket is the CONNECT of one attempt.
func (c *Client) connectPacket(ctx context.Context) (*paho.Connect, error) {
	who, err := c.credentials(ctx)
	if err != nil {
		return nil, err
	}
	expiry := seconds(c.cfg.Session.Expiry)
	cp := &paho.Connect{
		ClientID:   c.ClientID(),
		CleanStart: c.cleanStart(),
		KeepAlive:  uint16(min(seconds(c.cfg.Connection.KeepAlive), 65_535)),
		Properties: &paho.ConnectProperties{
			SessionExpiryInterval: &expiry,
			ReceiveMaximum:        &c.cfg.Receiving.ReceiveMaximum,
			MaximumPacketSize:     &c.cfg.Connection.MaximumPacketSize,
			TopicAliasMaximum:     &c.cfg.Receiving.TopicAliasMaximum,
			RequestProblemInfo:    true,
		},
	}
	if who.Username != "" {
		cp.UsernameFlag, cp.Username = true, who.Username
	}
	if len(who.Password) > 0 || who.Password != nil && who.Username != "" {
		cp.PasswordFlag, cp.Password = true, who.Password
	}
	if w := c.cfg.Presence.Will; w != nil {
		cp.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: w.Payload, QoS: byte(w.QoS), Retain: w.Retain}
		cp.WillProperties = &paho.WillProperties{}
	}
	return cp, nil
}

// properties are the Will Properties as they go into CONNECT. paho.golang
// drops most of them, so the link puts them in itself.
func (w *Will) properties() []byte {
	var dst []byte
	if w.Delay > 0 {
		dst = wire.AppendProperty(dst, wire.Property{ID: wire.PropWillDelay, Int: seconds(w.Delay)})
	}
	p := w.packet()
	return p.AppendProperties(dst)
}

// connectFailed runs after each attempt that failed, except one that ends the
// client.
func (c *Client) connectFailed(end link.End, d link.Decision) {
	server, err, verdict := end.Server.Redacted(), connectionError(end.Err), c.verdict.take()
	c.counters.connectFailures.Add(1)
	c.enter(ConnectionState{Phase: PhaseWaiting, Server: server, Attempt: end.Attempt, Err: err, RetryAt: time.Now().Add(d.Delay)})
	c.cfg.Logger.Warn("connecting failed", "server", server, "attempt", end.Attempt, "took", end.Took, "error", end.Err, "retry_in", d.Delay)
	c.event(ConnectFailed{Server: server, Err: err, Attempt: end.Attempt, Took: end.Took, Action: verdict.action, Delay: d.Delay})
	c.redirected(verdict)
}

// redirected tells where the server sends us, if it does and we go.
func (c *Client) redirected(v verdict) {
	if v.redirected != nil {
		c.event(*v.redirected)
	}
}

// connected lives as long as the connection: it brings the server up to date,
// lets the drainer go, and watches that acknowledgements come.
func (c *Client) connected(up *link.Up) {
	defer c.guard.Enter()()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-up.Failed():
			cancel()
		case <-ctx.Done():
		}
	}()
	c.retry.Up()
	c.discard.Store(false)
	c.granted.Store(int64(up.SessionExpiry))
	c.counters.connections.Add(1)
	c.mu.Lock()
	if !up.Gen.Present || c.subs.session == 0 || up.Server != c.server {
		c.subs.session++ // what another server has was never asked of this one
	}
	c.server = up.Server
	c.up = up
	select {
	case <-c.hurry: // what it was for is done
	default:
	}
	c.enterLocked(ConnectionState{Phase: PhaseConnected, Server: up.Server.Redacted(), Attempt: up.Attempt})
	c.changedLocked()
	c.mu.Unlock()
	c.cfg.Logger.Info("connected", "server", up.Server.Redacted(), "attempt", up.Attempt, "took", up.Took, "session_present", up.Gen.Present)
	c.event(Connected{Server: up.Server.Redacted(), SessionPresent: up.Gen.Present, Attempt: up.Attempt, Took: up.Took,
		ClientID: c.ClientID(), KeepAlive: time.Duration(up.KeepAlive) * time.Second, SessionExpiry: up.SessionExpiry})
	if err := up.Gen.ResendDirects(); err == nil {
		c.announce(up)
	}
	c.progress.Store(c.clock.since())
	c.mu.Lock()
	c.begun = up
	c.mu.Unlock()
	c.wakeDrainer()
	var catchingUp sync.WaitGroup
	c.run(&catchingUp, func() {
		c.catchUp(ctx, up)
		c.run(&catchingUp, func() { c.keepTaps(ctx, up) })
		c.keepStatus(ctx, up)
	})
	c.watchAcks(up)
	catchingUp.Wait()
}

// watchAcks closes a connection on which messages are in flight and nothing is
// acknowledged: the link is half-open, or the server is stuck.
func (c *Client) watchAcks(up *link.Up) {
	tick := time.NewTicker(max(c.cfg.Connection.AckTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-up.Failed():
			return
		case <-tick.C:
		}
		now := c.clock.since()
		if up.Gen.InFlight() == 0 || up.Stalled() {
			c.progress.Store(now)
		} else if time.Duration(now-c.progress.Load()) > c.cfg.Connection.AckTimeout {
			up.Fail(ErrAckTimeout)
			return
		}
	}
}

// disconnected runs after each connection.
func (c *Client) disconnected(end link.End, d link.Decision) {
	up, server, err, verdict := end.Up, end.Server.Redacted(), end.Err, c.verdict.take()
	c.checkPoison(up.Gen.Number, err)
	if ended := (*link.DisconnectError)(nil); errors.As(err, &ended) && ended.Reason == wire.ReasonSessionTakenOver {
		// Someone else uses our ClientID and has used our session: its state is
		// not ours any more, and our packet identifiers may be theirs.
		// That holds for the next process too.
		c.discard.Store(true)
		if err := c.voidSession(takenOver); err != nil {
			c.storeFailed(err)
		} else {
			c.tellFailed()
		}
	}
	err = connectionError(err)
	c.mu.Lock()
	c.up, c.left = nil, time.Now()
	said := (*ConnectionError)(nil)
	if c.state >= closing && errors.Is(err, net.ErrClosed) || c.saidBye.Load() && !errors.As(err, &said) {
		err = nil // we ended it, whoever closed first
	}
	if d.Stop {
		c.enterLocked(ConnectionState{Phase: PhaseEnding, Server: server, Err: err})
	} else {
		c.enterLocked(ConnectionState{Phase: PhaseWaiting, Server: server, Err: err, RetryAt: time.Now().Add(d.Delay)})
	}
	c.mu.Unlock()
	c.cfg.Logger.Info("disconnected", "server", server, "after", end.Took, "error", err, "retry_in", d.Delay)
	c.event(Disconnected{Server: server, Err: err, After: end.Took, Action: verdict.action, Delay: d.Delay})
	c.redirected(verdict)
}
