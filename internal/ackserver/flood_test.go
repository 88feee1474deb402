package ackserver

import (
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func (p *peer) subscribe(qos byte) {
	p.t.Helper()
	p.send([]byte{0x82, 7, 0, 1, 0, 0, 1, '#', qos})
	p.expect([]byte{0x90, 4, 0, 1, 0, qos})
}

// message reads the next packet as a PUBLISH.
func (p *peer) message() wire.PublishView {
	p.t.Helper()
	v, err := wire.ParsePublish(p.next())
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// quiet checks that the server sends nothing more: the next packet is the answer to a PINGREQ.
func (p *peer) quiet() {
	p.t.Helper()
	p.send([]byte{0xC0, 0})
	p.expect([]byte{0xD0, 0})
}

func flood(t testing.TB, s *Server, f Flood) *Run {
	t.Helper()
	r, err := s.Flood(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *Run) wait(t testing.TB) {
	t.Helper()
	select {
	case <-r.Done():
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	case <-time.After(time.Minute):
		t.Fatalf("the flood stands at %d", r.Acked())
	}
}

// answer acknowledges the messages of the flood until n messages are completed, and calls check for
// each.
func (p *peer) answer(n int, check func(i int, v wire.PublishView)) {
	p.t.Helper()
	for seen, through := 0, 0; through < n; {
		f := p.next()
		if f.Type() == wire.PUBREL {
			a, err := wire.ParseAck(f)
			if err != nil {
				p.t.Fatal(err)
			}
			p.send(acknowledge(wire.PUBCOMP, a.PacketID))
			through++
			continue
		}
		v, err := wire.ParsePublish(f)
		if err != nil {
			p.t.Fatal(err)
		}
		check(seen, v)
		seen++
		switch v.QoS {
		case 0:
			through++
		case 1:
			p.send(acknowledge(wire.PUBACK, v.PacketID))
			through++
		case 2:
			p.send(acknowledge(wire.PUBREC, v.PacketID))
		}
	}
}

func TestFlood_NumbersMessagesAndRotatesTopics(t *testing.T) {
	topics := []string{"a", "b/c", "d"}
	for qos := range byte(3) {
		s := start(t, Options{})
		p := connect(t, s, 50)
		run := flood(t, s, Flood{Messages: 1000, QoS: qos, PayloadSize: 100, Topics: topics})
		p.subscribe(2)
		p.answer(1000, func(i int, v wire.PublishView) {
			if v.QoS != qos || v.Dup || string(v.Topic) != topics[i%3] || len(v.Payload) != 100 || sequence(v.Payload) != uint64(i) {
				t.Fatalf("message %d at QoS %d: %+v", i, qos, v)
			}
		})
		run.wait(t)
		if run.Acked() != 1000 {
			t.Errorf("Acked() = %d", run.Acked())
		}
	}
}

func TestFlood_ObeysTheReceiveMaximum(t *testing.T) {
	s := start(t, Options{})
	p := connect(t, s, 3)
	run := flood(t, s, Flood{Messages: 6, QoS: 2})
	p.subscribe(2)
	ids := map[uint16]bool{}
	for range 3 {
		ids[p.message().PacketID] = true
	}
	if len(ids) != 3 {
		t.Fatalf("packet identifiers repeat: %v", ids)
	}
	p.quiet()
	p.send(acknowledge(wire.PUBREC, 2)) // does not free the place
	p.expect(acknowledge(wire.PUBREL, 2))
	p.quiet()
	p.send(acknowledge(wire.PUBCOMP, 2))
	if v := p.message(); v.PacketID != 2 {
		t.Fatalf("identifier %d is used twice", v.PacketID)
	}
	p.quiet()
	p.send(wire.AppendAck(nil, wire.Ack{Type: wire.PUBREC, PacketID: 1, Reason: wire.ReasonQuotaExceeded})) // frees the place
	if v := p.message(); v.PacketID != 1 {
		t.Fatalf("identifier %d is used twice", v.PacketID)
	}
	if run.Acked() != 2 {
		t.Errorf("Acked() = %d, want 2", run.Acked())
	}
}

func TestFlood_LowersQoSToTheSubscription(t *testing.T) {
	s := start(t, Options{})
	p := connect(t, s, 0)
	run := flood(t, s, Flood{Messages: 1, QoS: 2})
	p.subscribe(1)
	if v := p.message(); v.QoS != 1 {
		t.Fatalf("QoS %d", v.QoS)
	}
	p.send(acknowledge(wire.PUBACK, 1))
	run.wait(t)
}

func TestFlood_SeveralOnOneConnection(t *testing.T) {
	s := start(t, Options{})
	p := connect(t, s, 0)
	p.subscribe(1)
	for range 3 {
		run := flood(t, s, Flood{Messages: 70_000, QoS: 1, PayloadSize: 8}) // identifiers wrap around
		p.answerFast(70_000)
		run.wait(t)
	}
}

// answerFast acknowledges n messages at QoS 1, one read at a time.
func (p *peer) answerFast(n int) {
	p.t.Helper()
	var acks []byte
	for range n {
		acks = append(acks, acknowledge(wire.PUBACK, p.message().PacketID)...)
		if p.r.Buffered() == 0 || len(acks) > 4096 {
			p.send(acks)
			acks = acks[:0]
		}
	}
	if len(acks) > 0 {
		p.send(acks)
	}
}

func TestFlood_FailsOnAWrongAcknowledgement(t *testing.T) {
	for name, wrong := range map[string][][]byte{
		"of another type": {acknowledge(wire.PUBREC, 1)},
		"not in flight":   {acknowledge(wire.PUBACK, 3)},
		"out of range":    {acknowledge(wire.PUBACK, 4000)},
		"twice":           {acknowledge(wire.PUBACK, 1), acknowledge(wire.PUBACK, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{})
			p := connect(t, s, 10)
			run := flood(t, s, Flood{Messages: 2, QoS: 1})
			p.subscribe(1)
			p.message()
			p.message()
			p.send(wrong...)
			if <-run.Done(); run.Err() == nil {
				t.Error("the flood ended well")
			}
			p.expectEnd()
		})
	}
}

func TestFlood_FailsWithItsConnection(t *testing.T) {
	s := start(t, Options{})
	p := connect(t, s, 1)
	run := flood(t, s, Flood{Messages: 2, QoS: 1})
	p.subscribe(1)
	p.message()
	_ = p.Close()
	if <-run.Done(); run.Err() == nil {
		t.Error("the flood ended well")
	}
}

func TestFlood_ChecksItsArguments(t *testing.T) {
	s := start(t, Options{})
	for name, f := range map[string]Flood{
		"no messages": {},
		"QoS 3":       {Messages: 1, QoS: 3},
		"wildcard":    {Messages: 1, Topics: []string{"a", "#"}},
	} {
		if _, err := s.Flood(f); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	flood(t, s, Flood{Messages: 1})
	if _, err := s.Flood(Flood{Messages: 1}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second pending flood: %v", err)
	}
}

// BenchmarkFlood is the upper limit of any receiving benchmark: 256 bytes, and a client that
// extracts the packet identifiers and answers in batches.
func BenchmarkFlood(b *testing.B) {
	for name, qos := range map[string]byte{"QoS0": 0, "QoS1": 1} {
		b.Run(name, func(b *testing.B) {
			s := start(b, Options{})
			p := connect(b, s, 0)
			p.subscribe(1)
			b.ReportAllocs()
			b.ResetTimer()
			run := flood(b, s, Flood{Messages: b.N, QoS: qos, PayloadSize: 256})
			var acks []byte
			for range b.N {
				f, err := p.r.Next()
				if err != nil {
					b.Fatal(err)
				}
				if qos == 0 {
					continue
				}
				// With topic "bench", the identifier follows 2 + 5 bytes.
				acks = append(acks, 0x40, 2, f.Body[7], f.Body[8])
				if p.r.Buffered() < len(f.Raw) {
					p.send(acks)
					acks = acks[:0]
				}
			}
			if len(acks) > 0 {
				p.send(acks)
			}
			run.wait(b)
		})
	}
}
