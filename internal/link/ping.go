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
var ErrKeepAlive = errors.New("mqtt: server did not answer within the keep alive time; the link is dead or half-open")

// pinger is paho's keep alive for a Conn. paho's own does not see packets that
// do not pass through its client; the Conn sees all of them.
type pinger struct{ conn *Conn }

// Run sends a PINGREQ when nothing was sent, or nothing came, for the keep
// alive time [MQTT-3.1.2-20], and fails when nothing at all comes for half of
// that time again, unless nobody reads, see Conn.Stall.
func (p pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}
	interval := time.Duration(keepAlive) * time.Second
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var asked time.Time // of the PINGREQ that is not answered
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		stalled := p.conn.Stalled()
		read := p.conn.start.Add(time.Duration(p.conn.lastRead.Load()))
		if stalled { // the link may be well
			read = time.Now()
		}
		written := p.conn.start.Add(time.Duration(p.conn.lastWrite.Load()))
		// An answer may bear the same time as the request: clocks tick coarsely.
		if !asked.IsZero() && read.Before(asked) {
			p.conn.Fail(ErrKeepAlive)
			return ErrKeepAlive
		}
		asked = time.Time{}
		due := read.Add(interval)
		if written.Before(read) {
			due = written.Add(interval)
		}
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			continue
		}
		asked = time.Now()
		if err := p.conn.Send(func(dst []byte) []byte { return append(dst, byte(wire.PINGREQ)<<4, 0) }); err != nil {
			return err
		}
		timer.Reset(interval / 2)
	}
}

func (pinger) PacketSent()             {}
func (pinger) PacketReceived()         {}
func (pinger) PingResp()               {}
func (pinger) SetDebug(paholog.Logger) {}
