package client

import (
	"context"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/reliability"
)

// announce publishes the birth, retained: after every CONNACK, since the
// server may have published the will meanwhile. It goes past the store, ahead
// of any backlog.
func (c *Client) announce(up *link.Up) {
	if c.cfg.Status == nil {
		return
	}
	_, err := c.publishStatus(up, c.cfg.Status.Online)
	if err != nil && up.Cause() == nil {
		c.event(StatusFailed{Err: err})
	}
}

// sayGoodbye publishes offline and waits for its acknowledgement. It reports
// whether the server has it.
func (c *Client) sayGoodbye(up *link.Up) bool {
	answered, err := c.publishStatus(up, c.cfg.Status.Offline)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-up.Failed():
			cancel()
		case <-ctx.Done():
		}
	}()
	return reliability.Await(ctx, c.cfg.CloseTimeout, answered) == nil
}

// publishStatus sends a retained QoS 1 message; answered is closed when the
// server has it.
func (c *Client) publishStatus(up *link.Up, payload []byte) (answered <-chan struct{}, err error) {
	p := wire.Publish{Topic: c.cfg.Status.Topic, Payload: payload, QoS: 1, Retain: true}
	if refused := fits(p.Size(), p.QoS, p.Retain, up.Gen.Limits); refused != nil {
		return nil, refused
	}
	done := make(chan struct{})
	err = up.Gen.PublishDirect(wire.AppendPublish(nil, &p), func(reason byte, err error) {
		if err == nil && reason < 0x80 {
			close(done)
			return
		}
		if err == nil {
			err = &RefusedError{Code: reason, Reason: "status message"}
		}
		c.event(StatusFailed{Err: err})
	})
	return done, err
}

// goodbye ends a connection cleanly. Where the status says offline, or there is
// none, the server is told to forget the will; else it is asked to publish it.
func (c *Client) goodbye(up *link.Up) {
	reason := wire.ReasonSuccess
	if c.cfg.Status != nil && !c.sayGoodbye(up) {
		reason = wire.ReasonDisconnectWithWill
	}
	timer := time.AfterFunc(c.cfg.CloseTimeout, func() { _ = up.Close() })
	defer timer.Stop()
	_ = up.Disconnect(reason) // there is nothing left to do about an error
}
