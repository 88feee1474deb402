package hostile

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// peer is one connection on the server's side. It reads and records everything that the client
// sends at once.
type peer struct {
	s       *server
	nc      net.Conn
	n       int // number of the connection, from 1
	connect control.Connect
	behaves bool          // answer all packets correctly
	mute    bool          // do not answer SUBSCRIBE
	sent    sync.Mutex    // held while writing
	gone    chan struct{} // closed when the client has ended the connection
	changed chan struct{}
	over    chan struct{} // closed when play has returned

	mu        sync.Mutex
	ids       map[byte]uint16 // identifier of a message in flight, by QoS
	asked     uint16          // identifier of the client's SUBSCRIBE
	completed uint16          // identifier of the client's last PUBCOMP
	reason    int             // of the client's DISCONNECT; -1: none received
}

// accept reads CONNECT, answers it, and continues to read on a goroutine. It returns false if the
// client has already ended the connection.
func (p *peer) accept(ack control.Connack) bool {
	_ = p.nc.SetReadDeadline(time.Now().Add(timeout))
	r := wire.NewReader(p.nc, 0)
	f, err := r.Next()
	if err == nil {
		if p.connect, err = control.ParseConnect(f); err != nil {
			p.s.t.Errorf("the client's CONNECT: %v", err)
		}
	}
	if err != nil {
		close(p.gone)
		return false
	}
	ack.SessionPresent = ack.SessionPresent && !p.connect.CleanStart
	p.listen(r)
	p.send(control.AppendConnack(nil, &ack))
	return true
}

// listen reads packets until the client closes the connection.
func (p *peer) listen(r *wire.Reader) {
	_ = p.nc.SetReadDeadline(time.Time{})
	p.s.all.Go(func() {
		defer close(p.gone)
		for {
			f, err := r.Next()
			if err != nil {
				return
			}
			if answer := p.heard(f); len(answer) > 0 {
				p.s.all.Go(func() { p.send(answer) }) // reading continues meanwhile
			}
		}
	})
}

// heard records a packet and returns the answer to it.
func (p *peer) heard(f wire.Frame) (answer []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
	switch f.Type() {
	case wire.PUBLISH:
		v, err := wire.ParsePublish(f)
		if err != nil {
			p.s.t.Errorf("the client's PUBLISH: %v", err)
			return nil
		}
		p.ids[v.QoS] = v.PacketID
		if !p.behaves || v.QoS == 0 {
			return nil
		}
		p.s.take(string(v.Payload))
		kind := wire.PUBACK
		if v.QoS == 2 {
			kind = wire.PUBREC
		}
		return wire.AppendAck(nil, wire.Ack{Type: kind, PacketID: v.PacketID})
	case wire.PUBREL:
		a, err := wire.ParseAck(f)
		if err != nil {
			p.s.t.Errorf("the client's PUBREL: %v", err)
		}
		if !p.behaves {
			return nil
		}
		return wire.AppendAck(nil, wire.Ack{Type: wire.PUBCOMP, PacketID: a.PacketID})
	case wire.SUBSCRIBE:
		sub, err := control.ParseSubscribe(f)
		if err != nil {
			p.s.t.Errorf("the client's SUBSCRIBE: %v", err)
		}
		ack := control.Suback{PacketID: sub.PacketID}
		for _, s := range sub.Subscriptions {
			ack.Reasons = append(ack.Reasons, s.QoS)
		}
		if p.asked = sub.PacketID; p.mute {
			return nil
		}
		return control.AppendSuback(nil, &ack)
	case wire.PINGREQ:
		return control.AppendPingresp(nil)
	case wire.PUBACK, wire.PUBREC:
	case wire.PUBCOMP:
		a, err := wire.ParseAck(f)
		if err != nil {
			p.s.t.Errorf("the client's PUBCOMP: %v", err)
		}
		p.completed = a.PacketID
	case wire.CONNECT: // if CONNACK came first
	case wire.DISCONNECT:
		d, err := control.ParseDisconnect(f)
		if err != nil {
			p.s.t.Errorf("the client's DISCONNECT: %v", err)
		}
		p.reason = int(d.Reason)
	default:
		p.s.t.Errorf("the client sent a %v", f.Type())
	}
	return nil
}

// send writes b. It returns false if the client has ended the connection.
func (p *peer) send(b []byte) bool {
	p.sent.Lock()
	defer p.sent.Unlock()
	_ = p.nc.SetWriteDeadline(time.Now().Add(timeout))
	_, err := p.nc.Write(b)
	return err == nil
}

func (p *peer) publish(m wire.Publish) bool { return p.send(wire.AppendPublish(nil, &m)) }

func (p *peer) ack(t wire.Type, id uint16) bool {
	return p.send(wire.AppendAck(nil, wire.Ack{Type: t, PacketID: id}))
}

// flood sends b repeatedly, until the client closes the connection or n is reached.
func (p *peer) flood(n int, b []byte) {
	const at = 64 << 10
	var many []byte
	for range n {
		if many = append(many, b...); len(many) >= at {
			if !p.send(many) {
				return
			}
			many = many[:0]
		}
	}
	p.send(many)
}

// await waits until done returns true or the client has closed the connection. done is called with
// mu held.
func (p *peer) await(done func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		p.mu.Lock()
		ok := done()
		p.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-p.changed:
		case <-p.gone:
			return false
		case <-timer.C:
			p.s.t.Errorf("connection %d: what should have come from the client has not", p.n)
			return false
		}
	}
}

// inFlight waits for a message of the client and returns its identifier.
func (p *peer) inFlight(qos byte) (id uint16) {
	p.await(func() bool { id = p.ids[qos]; return id != 0 })
	return id
}

// subscribes waits for the client's SUBSCRIBE and returns its identifier.
func (p *peer) subscribes() (id uint16) {
	p.await(func() bool { id = p.asked; return id != 0 })
	return id
}

// early reads CONNECT and answers it with b.
func (p *peer) early(b string) {
	r := wire.NewReader(p.nc, 0)
	_, err := r.Next()
	p.listen(r)
	if err == nil {
		p.send([]byte(b))
	}
}

// ended waits until the client closes the connection, and returns the reason code of its
// DISCONNECT.
func (p *peer) ended() (reason int, err error) {
	select {
	case <-p.gone:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.reason, nil
	case <-time.After(timeout):
		return 0, fmt.Errorf("connection %d still stands", p.n)
	}
}

// stands reports whether the client still answers on this connection.
func (p *peer) stands() bool {
	const nobody = 64_999
	return p.ack(wire.PUBREL, nobody) && p.await(func() bool { return p.completed == nobody })
}

// huge sends as many messages of the maximum size as the client's Receive Maximum allows. Meanwhile
// handlers finish none of them. It ends when the client ends the connection or all messages are
// sent.
func (p *peer) huge(qos byte) {
	m := p.slow(qos, 0)
	m.Payload = make([]byte, hugePacket-64)
	image := wire.AppendPublish(nil, &m)
	var packet []byte
	for id := uint16(1); id <= 64; id++ {
		if packet = wire.AppendImage(packet[:0], image, id, false, 0); !p.send(packet) {
			return
		}
	}
}
