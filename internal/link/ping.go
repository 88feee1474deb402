package link

import (
	"context"
	"errors"
	"net"
	"time"

	paholog "github.com/eclipse/paho.golang/paho/log"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ErrKeepAlive means that the server did not answer a PINGREQ in time.
var ErrKeepAlive = errors.New("mqtt: server did not answer within the keep alive time; the link is dead or half-open, connecting again; raise KeepAlive if the link is only slow")

const (
	probeTimeout     = 5 * time.Second // for the answer to a probe; half the keep alive if that is shorter
	minProbeInterval = time.Second     // minimum time between two probes
)

// Probe sends a PINGREQ now, because the network may have changed. The connection fails if nothing
// is received within half the keep alive, at most 5 seconds. A second probe within a second is
// delayed to the end of that second. With a keep alive of 0, Probe does nothing. It never blocks.
func (c *Conn) Probe() { c.probes.Set() }

// pinger is paho's keep alive for a Conn. paho's own pinger does not see the packets that bypass
// paho's client. The Conn sees all packets.
type pinger struct{ conn *Conn }

// Run sends a PINGREQ when nothing was sent, or nothing was received, for the keep alive time
// [MQTT-3.1.2-20]. It fails when nothing is received for another half of that time, except during a
// Stall.
func (p pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}
	c, interval := p.conn, time.Duration(keepAlive)*time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	probes := c.probes // nil before nextProbe: no probe is allowed yet
	var nextProbe <-chan time.Time
	var asked, limit time.Duration // of the unanswered PINGREQ, since c.start
	for {
		probe := false
		select {
		case <-ctx.Done():
			return nil
		case <-nextProbe:
			probes = c.probes
			continue
		case <-probes:
			probe, probes, nextProbe = true, nil, time.After(minProbeInterval)
		case <-timer.C:
		}
		now, read := time.Duration(c.now()), time.Duration(c.lastRead.Load())
		if c.Stalled() { // the connection may be working
			read = now
		}
		// An answer may have the same time as the request, because the clock is coarse.
		answered := read >= asked
		if !answered && !probe {
			c.Fail(ErrKeepAlive)
			return ErrKeepAlive
		}
		if wait := min(read, time.Duration(c.lastWrite.Load())) + interval - now; wait > 0 && !probe {
			timer.Reset(wait)
			continue
		}
		timeout := interval / 2
		if probe {
			timeout = min(timeout, probeTimeout)
		}
		// Another PINGREQ does not extend the limit of an unanswered one.
		if answered {
			asked, limit = now, now+timeout
		} else {
			limit = min(limit, now+timeout)
		}
		if err := c.Send(func(dst []byte) []byte { return append(dst, byte(wire.PINGREQ)<<4, 0) }); err != nil {
			return err
		}
		timer.Reset(limit - time.Duration(c.now()))
	}
}

func (pinger) PacketSent()             {}
func (pinger) PacketReceived()         {}
func (pinger) PingResp()               {}
func (pinger) SetDebug(paholog.Logger) {}
