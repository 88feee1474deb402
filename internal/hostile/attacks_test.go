package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Required results of an attack, in addition to the reason codes of DISCONNECT.
const (
	stands = -1 - iota // the connection stays up
	closes             // the client closes it; MQTT requires no DISCONNECT or leaves it open
	free               // the server ends it, or no result is required
)

// attack is one way to break the rules.
type attack struct {
	name  string
	due   int // a reason code, or one of the constants above
	do    func(p *peer)
	ack   control.Connack
	edit  func(*client.Config)
	bound uint64 // limit of the heap; 0: heapBound
	bare  bool   // do starts with the connection; otherwise after CONNACK, with messages in flight
}

// on runs the attack on one connection and returns an error if the client's reaction is wrong.
func (a *attack) on(p *peer) error {
	if !a.bare {
		if !p.accept(a.ack) || p.inFlight(1) == 0 || p.inFlight(2) == 0 {
			return nil // the test has ended it
		}
		for range 20 { // until the client's writer is idle; see errSilent
			runtime.Gosched()
		}
	}
	a.do(p)
	switch a.due {
	case free:
		return nil
	case stands:
		if !p.stands() {
			return fmt.Errorf("the connection has ended")
		}
		p.s.sample()
		return nil
	}
	reason, err := p.ended()
	switch {
	case err != nil, a.due == closes, reason == a.due:
		return err
	case reason < 0:
		return errSilent
	}
	return fmt.Errorf("DISCONNECT with %#x, want %#x", reason, a.due)
}

// errSilent means that the connection was closed without the required DISCONNECT. That happens if
// the client is writing at the same moment. It also happens if a socket is closed with unread data,
// which drops the DISCONNECT.
var errSilent = errors.New("closed without a DISCONNECT")

// impatient configures a client that soon gives up a silent connection.
func impatient(cfg *client.Config) { cfg.Connection.AckTimeout = 20 * time.Millisecond }

// patient configures a client that gives a server time while it floods.
func patient(cfg *client.Config) { cfg.Connection.AckTimeout = timeout }

// budgeted configures a client with the default limits for received messages, scaled down by 16.
// With its Receive Maximum alone it would keep 64 MiB.
func budgeted(cfg *client.Config) {
	cfg.Receiving.ReceiveMaximum, cfg.Connection.MaximumPacketSize, cfg.Receiving.MaxBufferedBytes, cfg.Receiving.QoS0QueueSize = 64, hugePacket, budget, 1024
	cfg.Connection.AckTimeout = 500 * time.Millisecond // by then, a slow machine has read as much as the budget allows
}

const (
	hugePacket = 1 << 20
	budget     = 4 << 20
	// hugeBound includes the memory that both sides allocate while a packet is created and read. A
	// heap sample may see it before it is collected.
	hugeBound = budget + 32*hugePacket
)

func sends(b ...byte) func(*peer) { return func(p *peer) { p.send(b) } }

func sendsAll(s string) func(*peer) { return func(p *peer) { p.send([]byte(s)) } }

// slow returns a message that its handler holds during the attack on the connection.
func (p *peer) slow(qos byte, id uint16) wire.Publish {
	return wire.Publish{Topic: "slow", QoS: qos, PacketID: id, ContentType: strconv.Itoa(p.n), Payload: []byte("x")}
}

// malformed are packets that no server may send.
var malformed = []attack{
	{name: "packet type 0", due: 0x81, do: sends(0, 0)},
	{name: "length not minimal", due: 0x81, do: sends(0xD0, 0x80, 0)},
	{name: "length of five bytes", due: 0x81, do: sends(0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01)},
	{name: "PINGRESP with flags", due: 0x81, do: sends(0xD1, 0)},
	{name: "PINGRESP with a body", due: 0x81, do: sends(0xD0, 1, 0)},
	{name: "PUBREL without its flags", due: 0x81, do: sends(0x60, 2, 0, 1)},
	{name: "SUBACK too short", due: 0x81, do: sends(0x90, 2, 0, 1)},
	{name: "UNSUBACK, properties cut", due: 0x81, do: sends(0xB0, 4, 0, 1, 9, 0)},
	{name: "PUBACK, bytes behind", due: 0x81, do: sends(0x40, 5, 0, 1, 0, 0, 0)},
	{name: "DISCONNECT, bytes behind", due: 0x81, do: sends(0xE0, 3, 0, 0, 0)},
	{name: "PUBLISH, QoS 3", due: 0x81, do: sendsAll("\x36\x06\x00\x01t\x00\x01\x00")},
	{name: "PUBLISH, DUP at QoS 0", due: 0x81, do: sendsAll("\x38\x04\x00\x01t\x00")},
	{name: "PUBLISH, topic not UTF-8", due: 0x81, do: sendsAll("\x30\x04\x00\x01\xFF\x00")},
	{name: "PUBLISH, topic with U+0000", due: 0x81, do: sendsAll("\x30\x04\x00\x01\x00\x00")},
	{name: "PUBLISH, topic with a wildcard", due: 0x81, do: sendsAll("\x30\x04\x00\x01#\x00")},
	{name: "PUBLISH, property of CONNACK", due: 0x81, do: sendsAll("\x30\x07\x00\x01t\x03\x21\x00\x01")},
	{name: "PUBLISH, property twice", due: 0x82, do: sendsAll("\x30\x08\x00\x01t\x04\x01\x01\x01\x01")},
	{name: "PUBLISH, identifier 0", due: 0x82, do: sendsAll("\x32\x06\x00\x01t\x00\x00\x00")},
	{name: "PUBLISH without topic", due: 0x82, do: sendsAll("\x30\x03\x00\x00\x00")},
	{name: "alias 0", due: 0x82, do: sendsAll("\x30\x07\x00\x01t\x03\x23\x00\x00")},
	{name: "alias above the maximum", due: 0x94, do: sendsAll("\x30\x07\x00\x01t\x03\x23\x00\x05")},
	{name: "alias that was not set", due: 0x82, do: sendsAll("\x30\x06\x00\x00\x03\x23\x00\x04")},
	{name: "PUBACK, identifier 0", due: 0x82, do: sends(0x40, 2, 0, 0)},
	{name: "PUBREC, reason of another packet", due: 0x82, do: sends(0x50, 3, 0, 1, 0x92)},
	{name: "a second CONNACK", due: 0x82, do: sends(0x20, 3, 0, 0, 0)},
	{name: "endless CONNACKs", due: 0x82, do: func(p *peer) { p.flood(1e6, control.AppendConnack(nil, &control.Connack{})) }},
	{name: "AUTH unasked", due: 0x82, do: sends(0xF0, 0)},
	{name: "endless AUTHs", due: 0x82, do: func(p *peer) { p.flood(1e6, []byte{0xF0, 2, 0x18, 0}) }},
	{name: "CONNECT", due: 0x82, do: func(p *peer) { p.send(control.AppendConnect(nil, &control.Connect{})) }},
	{name: "SUBSCRIBE", due: 0x82, do: sends(0x82, 7, 0, 1, 0, 0, 1, 'a', 0)},
	{name: "UNSUBSCRIBE", due: 0x82, do: sends(0xA2, 6, 0, 1, 0, 0, 1, 'a')},
	{name: "PINGREQ", due: 0x82, do: sends(0xC0, 0)},
	{name: "larger than the client accepts", due: 0x95, do: func(p *peer) { p.publish(wire.Publish{Topic: "t", Payload: make([]byte, packetSize)}) }},
	{name: "256 MiB announced", due: 0x95, do: sends(0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 't')},
}

// steps are packets at the wrong time or with the wrong identifier.
var steps = []attack{
	{name: "PUBACK for a QoS 2 message", due: 0x82, do: func(p *peer) { p.ack(wire.PUBACK, p.inFlight(2)) }},
	{name: "PUBREC for a QoS 1 message", due: 0x82, do: func(p *peer) { p.ack(wire.PUBREC, p.inFlight(1)) }},
	{name: "PUBCOMP for a QoS 1 message", due: 0x82, do: func(p *peer) { p.ack(wire.PUBCOMP, p.inFlight(1)) }},
	{name: "PUBCOMP before PUBREC", due: 0x82, do: func(p *peer) { p.ack(wire.PUBCOMP, p.inFlight(2)) }},
	{name: "PUBREC that accepts, then one that refuses", due: 0x82, do: func(p *peer) {
		id := p.inFlight(2)
		p.ack(wire.PUBREC, id)
		p.send(wire.AppendAck(nil, wire.Ack{Type: wire.PUBREC, PacketID: id, Reason: 0x87}))
	}},
	{name: "identifier in use for another message", due: 0x82, do: func(p *peer) {
		p.publish(p.slow(1, 9))
		other := p.slow(1, 9)
		other.Payload = []byte("y")
		p.publish(other)
	}},
	{name: "beyond Receive Maximum at QoS 1", due: 0x93, do: func(p *peer) {
		for id := uint16(1); id < 60_000 && p.publish(p.slow(1, id)); id++ {
		}
	}},
	{name: "beyond Receive Maximum at QoS 2, without PUBREL", due: 0x93, do: func(p *peer) {
		for id := uint16(1); id < 60_000 && p.publish(wire.Publish{Topic: "t", QoS: 2, PacketID: id}); id++ {
		}
	}},
	{name: "acknowledgements for nobody", due: stands, do: func(p *peer) {
		for _, t := range []wire.Type{wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP} {
			for id := uint16(30_000); id < 30_100; id++ {
				p.ack(t, id)
			}
		}
	}},
	{name: "SUBACK and UNSUBACK for nobody", due: 0x82, do: func(p *peer) {
		for id := uint16(500); id < 600; id++ {
			p.send(control.AppendSuback(nil, &control.Suback{PacketID: id, Reasons: []byte{0, 1, 2}}))
			p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: id, Reasons: []byte{0}}))
		}
	}},
	{name: "SUBACK with too many codes", due: 0x82, bare: true, do: func(p *peer) {
		p.mute = true
		p.accept(control.Connack{})
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: p.subscribes(), Reasons: []byte{0, 0}}))
	}},
	{name: "SUBACK without codes", due: 0x81, bare: true, do: func(p *peer) {
		p.mute = true
		p.accept(control.Connack{})
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: p.subscribes()}))
	}},
	{name: "UNSUBACK for a SUBSCRIBE", due: free, bare: true, do: func(p *peer) {
		p.mute = true
		p.accept(control.Connack{})
		p.send(control.AppendUnsuback(nil, &control.Suback{PacketID: p.subscribes(), Reasons: []byte{0}}))
		p.publish(p.slow(0, 0))
	}},
}

// words are packets of a server that ends connections or refuses them.
var words = []attack{
	{name: "PUBLISH before CONNACK", due: closes, bare: true, do: func(p *peer) { p.early("\x30\x04\x00\x01t\x00") }},
	{name: "PINGRESP before CONNACK", due: closes, bare: true, do: func(p *peer) { p.early("\xD0\x00") }},
	{name: "AUTH before CONNACK", due: closes, bare: true, do: func(p *peer) { p.early("\xF0\x00") }},
	{name: "DISCONNECT before CONNACK", due: closes, bare: true, do: func(p *peer) { p.early("\xE0\x00") }},
	{name: "half a CONNACK", due: free, bare: true, do: func(p *peer) { p.early("\x20\x03\x00") }},
	{name: "CONNACK, Receive Maximum 0", due: closes, bare: true, do: func(p *peer) { p.early("\x20\x06\x00\x00\x03\x21\x00\x00") }},
	{name: "CONNACK, Maximum Packet Size 0", due: closes, bare: true, do: func(p *peer) { p.early("\x20\x08\x00\x00\x05\x27\x00\x00\x00\x00") }},
	{name: "CONNACK, Session Present in a refusal", due: closes, bare: true, do: func(p *peer) { p.early("\x20\x03\x01\x89\x00") }},
	{name: "CONNACK, a session out of nowhere", due: free, bare: true, do: func(p *peer) { p.early("\x20\x03\x01\x00\x00") }},
	{name: "CONNACK, server busy", due: closes, bare: true, do: func(p *peer) { p.early("\x20\x03\x00\x89\x00") }},
	{name: "CONNACK, of 256 MiB", due: closes, bare: true, do: func(p *peer) { p.early("\x20\xFF\xFF\xFF\x7F\x00") }},
	{name: "CONNACK before CONNECT", due: free, bare: true, do: func(p *peer) {
		p.s.all.Go(func() { p.send([]byte{0x20, 3, 0, 0, 0}) })
		p.listen(wire.NewReader(p.nc, 0))
	}},
	{name: "CONNACK and all else at once", due: stands, bare: true, do: func(p *peer) {
		m := wire.AppendPublish(control.AppendConnack(nil, &control.Connack{}), &wire.Publish{Topic: "t", QoS: 2, PacketID: 1})
		p.early(string(m))
	}},
	{name: "nothing at all", due: free, bare: true, do: func(*peer) {}},
	{name: "DISCONNECT with each reason code", due: free, do: func(p *peer) {
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: byte(p.n - 1)}))
	}},
	{name: "DISCONNECT with Session Expiry Interval", due: free, do: sends(0xE0, 7, 0x8B, 5, 0x11, 0, 0, 0, 0)},
	{name: "DISCONNECT, then more", due: closes, do: func(p *peer) {
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8B}))
		p.flood(1e5, []byte{0xD0, 0})
	}},
}

// floods exceed what a client must accept.
var floods = []attack{
	{name: "PINGRESPs", due: stands, edit: patient, do: func(p *peer) { p.flood(100_000, []byte{0xD0, 0}) }},
	{name: "acknowledgements for nobody, in masses", due: stands, edit: patient, do: func(p *peer) {
		p.flood(100_000, wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: 30_000}))
	}},
	{name: "PUBRELs for nobody, in masses", due: free, do: func(p *peer) {
		p.flood(100_000, wire.AppendAck(nil, wire.Ack{Type: wire.PUBREL, PacketID: 30_000}))
	}},
	{name: "one QoS 2 message again and again", due: free, do: func(p *peer) {
		m := p.slow(2, 7)
		p.flood(100_000, wire.AppendPublish(nil, &m))
	}},
	{name: "QoS 0 faster than it is handled", due: stands, edit: patient, do: func(p *peer) {
		m := p.slow(0, 0)
		m.Payload = make([]byte, packetSize-64)
		for range 600 {
			p.publish(m)
		}
	}},
	{name: "as many properties as fit", due: stands, edit: patient, do: func(p *peer) {
		// Five bytes on the wire take 32 bytes in memory.
		empty := wire.Properties(strings.Repeat("\x26\x00\x00\x00\x00", packetSize/5-20))
		for range 80 {
			m := p.slow(0, 0)
			m.Extra = empty
			p.publish(m)
		}
	}, bound: 8 * queue * packetSize},
	{name: "a new topic each time", due: stands, edit: patient, do: func(p *peer) {
		for i := range 1500 {
			if !p.publish(wire.Publish{Topic: fmt.Sprint(strings.Repeat("long ", 1000), i)}) {
				return
			}
		}
	}},
	{name: "all identifiers again on a resumed session", due: free, bare: true, do: func(p *peer) {
		// Messages with DUP 1 do not count against the client's Receive Maximum. The number of
		// identifiers limits them.
		p.accept(control.Connack{SessionPresent: p.n > 1})
		for id := 1; id < 65_536; id++ {
			m := p.slow(1, uint16(id))
			if m.Dup = p.n > 1; !p.publish(m) {
				return
			}
		}
	}, bound: 64 << 20},
}

// huge are attacks on clients with separate limits. They are not part of the mixed attack.
var huge = []attack{
	{name: "huge QoS 1 messages to a slow handler", due: 0x97, edit: budgeted, do: func(p *peer) { p.huge(1) }, bound: hugeBound},
	{name: "huge QoS 2 messages to a slow handler", due: 0x97, edit: budgeted, do: func(p *peer) { p.huge(2) }, bound: hugeBound},
	{name: "huge QoS 0 messages to a slow handler", due: stands, edit: func(cfg *client.Config) {
		budgeted(cfg)
		patient(cfg)
	}, do: func(p *peer) { p.huge(0) }, bound: hugeBound},
}

// silences are attacks of a server that stops or hardly continues.
var silences = []attack{
	{name: "half a PUBLISH, then nothing", due: closes, edit: impatient, do: sendsAll("\x32\x40\x00\x01t\x00\x01\x00half")},
	{name: "half a header, then nothing", due: closes, edit: impatient, do: sends(0x30)},
	{name: "half a length, then nothing", due: closes, edit: impatient, do: sends(0x30, 0xFF)},
	{name: "nothing after CONNACK", due: closes, edit: impatient, bare: true, do: func(p *peer) {
		p.mute = true
		p.accept(control.Connack{})
	}},
	{name: "256 MiB announced and allowed, then nothing", due: closes, do: func(p *peer) {
		p.send(append([]byte{0x30, 0xFB, 0xFF, 0xFF, 0x7F, 0, 1, 't', 0}, make([]byte, packetSize)...))
	},
		edit: func(cfg *client.Config) {
			impatient(cfg)
			cfg.Connection.MaximumPacketSize = wire.MaxPacketSize
		}, bound: 8 << 20},
	{name: "nothing is read any more", due: free, bare: true, do: func(p *peer) {
		r := wire.NewReader(p.nc, 0)
		_, _ = r.Next()
		// The server requests more answers than it reads.
		p.send(control.AppendConnack(nil, &control.Connack{}))
		for p.send(bytes.Repeat([]byte{0x62, 2, 0x75, 0x30}, 16<<10)) {
		}
	}},
	{name: "one byte at a time", due: stands, do: func(p *peer) {
		m := wire.AppendPublish([]byte{0xD0, 0}, &wire.Publish{Topic: "t", QoS: 2, PacketID: 3, Payload: []byte("slowly")})
		for _, b := range m {
			p.send([]byte{b})
		}
	}},
}
