package client

import (
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// announcer keeps births and the goodbye in order: behind offline no online may
// follow, from a connection that came up in the same moment. Its lock is held
// while a status is written.
type announcer struct {
	mu   sync.Mutex
	left bool // offline was said, and is the last word
}

// announce publishes the birth, retained: after every CONNACK, since the
// server may have published the will meanwhile. It goes past the store, ahead
// of any backlog.
func (c *Client) announce(up *link.Up) {
	if c.cfg.Status == nil {
		return
	}
	var err error
	c.announcer.mu.Lock()
	if !c.announcer.left {
		err = c.publishStatus(up, c.cfg.Status.Online, func(bool) {})
	}
	c.announcer.mu.Unlock()
	if err != nil && up.Cause() == nil {
		c.event(StatusFailed{Err: err})
	}
}

// sayGoodbye publishes offline and waits for its acknowledgement. It reports
// whether the server has it.
func (c *Client) sayGoodbye(up *link.Up) bool {
	answer := make(chan bool, 1)
	var err error
	c.within(up, func() { // a birth may be held up by a peer that takes nothing
		c.announcer.mu.Lock()
		defer c.announcer.mu.Unlock()
		c.announcer.left = true
		err = c.publishStatus(up, c.cfg.Status.Offline, func(accepted bool) { answer <- accepted })
	})
	if err != nil {
		return false
	}
	timer := time.NewTimer(c.cfg.CloseTimeout)
	defer timer.Stop()
	select {
	case accepted := <-answer:
		return accepted
	case <-up.Failed():
	case <-timer.C:
	}
	return false
}

// publishStatus sends a retained QoS 1 message; answered is called once, unless
// the client ends first.
func (c *Client) publishStatus(up *link.Up, payload []byte, answered func(accepted bool)) error {
	p := wire.Publish{Topic: c.cfg.Status.Topic, Payload: payload, QoS: 1, Retain: true}
	if refused := fits(p.Size(), p.QoS, p.Retain, up.Gen.Limits); refused != nil {
		return refused
	}
	return up.Gen.PublishDirect(wire.AppendPublish(nil, &p), func(reason byte, err error) {
		if err == nil && reason >= 0x80 {
			err = &RefusedError{Code: reason, Reason: "status message"}
		}
		if err != nil {
			c.event(StatusFailed{Err: err})
		}
		answered(err == nil)
	})
}

// goodbye ends a connection cleanly. Where the status says offline, or there is
// none, the server is told to forget the will; else it is asked to publish it.
func (c *Client) goodbye(up *link.Up) {
	reason := wire.ReasonSuccess
	if c.cfg.Status != nil && !c.sayGoodbye(up) {
		reason = wire.ReasonDisconnectWithWill
	}
	// A made-up ClientID dies with us: nobody could resume its session.
	forget := c.madeUpID && c.cfg.SessionExpiry != NoSession
	c.within(up, func() { _ = up.Disconnect(reason, forget) }) // there is nothing left to do about an error
}
