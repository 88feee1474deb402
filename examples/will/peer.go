package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// peer is a raw client that sends any packets, valid or invalid. It is used for the cases that the
// mooring client prevents by design.
type peer struct {
	nc net.Conn
	r  *wire.Reader
}

// timeout is the time in which a broker must answer.
const timeout = 5 * time.Second

func dialPeer(ctx context.Context, b *broker) (*peer, error) {
	nc, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &peer{nc: nc, r: wire.NewReader(nc, 0)}, nil
}

func (p *peer) close() { _ = p.nc.Close() } // an error does not matter here

// send sets a deadline, because a pipe without a reader blocks the writer.
func (p *peer) send(packet []byte) error {
	_ = p.nc.SetWriteDeadline(time.Now().Add(timeout)) // Write would report the error
	_, err := p.nc.Write(packet)
	return err
}

func (p *peer) next() (wire.Frame, error) {
	_ = p.nc.SetReadDeadline(time.Now().Add(timeout)) // Next would report the error
	return p.r.Next()
}

// connect connects with MQTT 5.
func (p *peer) connect(c control.Connect) error {
	if err := p.send(control.AppendConnect(nil, &c)); err != nil {
		return err
	}
	f, err := p.next()
	if err != nil {
		return fmt.Errorf("no CONNACK: %w", err)
	}
	ack, err := control.ParseConnack(f)
	if err == nil && ack.Reason != 0 {
		err = fmt.Errorf("CONNECT was refused with 0x%02X %s", ack.Reason, ack.ReasonString)
	}
	return err
}

// connect311 connects with MQTT 3.1.1 and Clean Session 0.
func (p *peer) connect311(c control.Connect) error {
	flags := 0x04 | c.Will.QoS<<3
	if c.HasUsername {
		flags |= 0x80
	}
	if c.Password != nil {
		flags |= 0x40
	}
	body := append(wire.AppendString(nil, "MQTT"), 4, flags)
	body = binary.BigEndian.AppendUint16(body, c.KeepAlive)
	body = wire.AppendString(body, c.ClientID)
	body = wire.AppendString(body, c.Will.Topic)
	body = wire.AppendString(body, c.Will.Payload)
	if c.HasUsername {
		body = wire.AppendString(body, c.Username)
	}
	if c.Password != nil {
		body = wire.AppendString(body, c.Password)
	}
	packet := wire.AppendVarint([]byte{byte(wire.CONNECT) << 4}, uint32(len(body)))
	if err := p.send(append(packet, body...)); err != nil {
		return err
	}
	f, err := p.next()
	switch {
	case err != nil:
		return fmt.Errorf("no CONNACK: %w", err)
	case f.Type() != wire.CONNACK || len(f.Body) != 2:
		return fmt.Errorf("the answer to a CONNECT of MQTT 3.1.1 is % x", f.Raw)
	case f.Body[1] != 0:
		return fmt.Errorf("CONNECT of MQTT 3.1.1 was refused with %d", f.Body[1])
	}
	return nil
}

// awaitEnd waits until the server closes the connection. It returns the reason code of the server's
// DISCONNECT, or 0 if there was no DISCONNECT.
func (p *peer) awaitEnd() (closed bool, reason byte) {
	for {
		f, err := p.next()
		if err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded), reason
		}
		if f.Type() == wire.DISCONNECT {
			if d, err := control.ParseDisconnect(f); err == nil {
				reason = d.Reason
			}
		}
	}
}
