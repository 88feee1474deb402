package link

import (
	"context"
	"errors"
	"net"
	"time"

	paholog "github.com/eclipse/paho.golang/paho/log"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ErrKeepAlive: the server did not answer a PINGREQ.
var ErrKeepAlive = errors.New("mqtt: server did not answer within the keep alive time; the link is dead or half-open, connecting again; raise KeepAlive if the link is only slow")

const (
	// probePatience is how long the answer to a probe may take, where half of the
	// keep alive is longer.
	probePatience = 5 * time.Second
	// betweenProbes is the least time between two probes.
	betweenProbes = time.Second
)

// Probe has the server asked for a sign of life now, because the network may have
// changed under the connection. It fails if none comes within half the keep alive,
// and 5 seconds at most. Probes within a second of each other count as one; the last
// of them is made when that second is over, since it may tell of another change.
// With a keep alive of 0 it does nothing. It never blocks.
func (c *Conn) Probe() {
	select {
	case c.probes <- struct{}{}:
	default:
	}
}

// pinger is paho's keep alive for a Conn. paho's own does not see packets that
// do not pass through its client; the Conn sees all of them.
type pinger struct{ conn *Conn }

// Run sends a PINGREQ when nothing was sent, or nothing came, for the keep
// alive time [MQTT-3.1.2-20], and fails when nothing at all comes for half of
// that time again, unless nobody reads, see Conn.Stall. A probe is such a PINGREQ
// before its time, whose answer is awaited for less long.
func (p pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}
	interval := time.Duration(keepAlive) * time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	probes := p.conn.probes
	again := time.NewTimer(interval) // when the next probe may be
	defer again.Stop()
	var asked, limit time.Time // of the PINGREQ that is not answered
	for {
		probe := false
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			probes = p.conn.probes
			continue
		case <-probes:
			probe, probes = true, nil
			again.Reset(betweenProbes)
		case <-timer.C:
		}
		stalled := p.conn.Stalled()
		read := p.conn.start.Add(time.Duration(p.conn.lastRead.Load()))
		if stalled { // the link may be well
			read = time.Now()
		}
		written := p.conn.start.Add(time.Duration(p.conn.lastWrite.Load()))
		// An answer may bear the same time as the request: clocks tick coarsely.
		if !probe && read.Before(asked) {
			p.conn.Fail(ErrKeepAlive)
			return ErrKeepAlive
		}
		due := read.Add(interval)
		if written.Before(read) {
			due = written.Add(interval)
		}
		if wait := time.Until(due); wait > 0 && !probe {
			timer.Reset(wait)
			continue
		}
		now, patience := time.Now(), interval/2
		if probe {
			patience = min(patience, probePatience)
		}
		// The limit of a question that is open is not put off by another.
		if open := read.Before(asked); !open {
			asked, limit = now, now.Add(patience)
		} else if now.Add(patience).Before(limit) {
			limit = now.Add(patience)
		}
		if err := p.conn.Send(func(dst []byte) []byte { return append(dst, byte(wire.PINGREQ)<<4, 0) }); err != nil {
			return err
		}
		timer.Reset(time.Until(limit))
	}
}

func (pinger) PacketSent()             {}
func (pinger) PacketReceived()         {}
func (pinger) PingResp()               {}
func (pinger) SetDebug(paholog.Logger) {}
