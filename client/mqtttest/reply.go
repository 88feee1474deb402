package mqtttest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reply selects the next packet of a type to a client. Each method creates a [Fault] for that
// packet and returns at once. The fault waits for a matching packet, also on later connections. The
// connection continues after the fault, and the broker behaves as if it had sent the original
// packet. If several faults match the same packets, each matching packet uses one fault, in the
// order of the calls.
type Reply struct {
	rules    *replyRules
	clientID string
	t        PacketType
}

// Fault is a change of one packet that the broker sends. Its methods are safe for concurrent use.
type Fault struct {
	reply  Reply
	change func(packet []byte) []byte // returns the bytes to send instead
	raw    bool                       // these bytes need not be whole packets
	delay  time.Duration              // instead of change
	done   chan struct{}
}

// Swallow makes the broker drop the packet.
func (r Reply) Swallow() *Fault {
	return r.arm(&Fault{change: func([]byte) []byte { return nil }, raw: true})
}

// Duplicate makes the broker send the packet twice.
func (r Reply) Duplicate() *Fault {
	return r.arm(&Fault{change: func(p []byte) []byte { return append(slices.Clip(p), p...) }})
}

// Delay makes the broker send the packet after d. Later packets overtake the delayed packet, unless
// it is a CONNACK or the last packet of the connection. If the connection ends before d has passed,
// the packet is lost.
func (r Reply) Delay(d time.Duration) *Fault { return r.arm(&Fault{delay: d}) }

// Refuse makes the broker send the packet with another reason code. If reasonString is not empty,
// the packet also has this Reason String. SUBACK and UNSUBACK contain the code for each filter.
// PUBLISH and PINGRESP have no reason code and are not changed.
func (r Reply) Refuse(code byte, reasonString string) *Fault {
	return r.Edit(func(p *Packet) {
		if len(p.Reasons) == 0 {
			return
		}
		for i := range p.Reasons {
			p.Reasons[i] = code
		}
		p.ReasonString = reasonString
	})
}

// Edit makes the broker call edit, which can change the packet, before it sends the packet. The
// function edit runs on a goroutine of the connection, like a hook. It may call the broker's
// methods and must not block.
func (r Reply) Edit(edit func(p *Packet)) *Fault {
	return r.arm(&Fault{change: func(raw []byte) []byte {
		p := parsePacket(raw)
		edit(&p)
		return p.encode()
	}})
}

// Replace makes the broker send other bytes instead of the packet, for example several packets or a
// malformed packet.
func (r Reply) Replace(with []byte) *Fault {
	with = bytes.Clone(with)
	return r.arm(&Fault{change: func([]byte) []byte { return with }, raw: true})
}

// Wait waits until the fault has been applied to a packet. A delayed packet may be sent after Wait
// has returned. If ctx ends first, the error names the packet type that was not sent.
func (f *Fault) Wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		to := "a client"
		if f.reply.clientID != "" {
			to = fmt.Sprintf("client %q", f.reply.clientID)
		}
		return fmt.Errorf("mqtttest: no %v was sent to %s: %w", f.reply.t, to, context.Cause(ctx))
	}
}

func (r Reply) arm(f *Fault) *Fault {
	f.reply, f.done = r, make(chan struct{})
	r.rules.mu.Lock()
	defer r.rules.mu.Unlock()
	r.rules.faults = append(r.rules.faults, f)
	r.rules.armed.Store(true)
	return f
}

// replyRules are the pending faults.
type replyRules struct {
	armed  atomic.Bool // there are faults
	mu     sync.Mutex
	faults []*Fault
}

// take returns the fault for a packet, or nil.
func (r *replyRules) take(clientID string, header byte) *Fault {
	if !r.armed.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.faults, func(f *Fault) bool {
		return f.reply.t == PacketType(header>>4) && (f.reply.clientID == "" || f.reply.clientID == clientID)
	})
	if i < 0 {
		return nil
	}
	f := r.faults[i]
	r.faults = slices.Delete(r.faults, i, i+1)
	r.armed.Store(len(r.faults) > 0)
	close(f.done)
	return f
}
