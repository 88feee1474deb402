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

// Reply selects the next packet of a type to a client. Each method arms a [Fault] for that packet
// and returns at once. The connection continues, and the broker acts as if it had sent the original
// packet. Several faults for the same packets apply one after the other, in the order of the calls.
// A fault waits for a match, also on later connections.
type Reply struct {
	rules    *replyRules
	clientID string
	t        PacketType
}

// Fault is a change to one packet that the broker sends. Its methods are safe for concurrent use.
type Fault struct {
	reply  Reply
	change func(packet []byte) []byte // returns the bytes to send instead
	raw    bool                       // these bytes need not be whole packets
	delay  time.Duration              // instead of change
	done   chan struct{}
}

// Swallow drops the packet.
func (r Reply) Swallow() *Fault {
	return r.arm(&Fault{change: func([]byte) []byte { return nil }, raw: true})
}

// Duplicate sends the packet twice.
func (r Reply) Duplicate() *Fault {
	return r.arm(&Fault{change: func(p []byte) []byte { return append(slices.Clip(p), p...) }})
}

// Delay sends the packet after d. Later packets overtake it, but not if it is a CONNACK or the last
// packet of the connection. If the connection ends earlier, the packet is lost.
func (r Reply) Delay(d time.Duration) *Fault { return r.arm(&Fault{delay: d}) }

// Refuse sends the packet with another reason code and, if it is not empty, a Reason String. SUBACK
// and UNSUBACK get the code for each filter. PUBLISH and PINGRESP have no reason code and are not
// changed.
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

// Edit sends the packet after edit has changed it. edit runs on a goroutine of the connection, like
// a hook. It may call the broker's methods and must not wait.
func (r Reply) Edit(edit func(p *Packet)) *Fault {
	return r.arm(&Fault{change: func(raw []byte) []byte {
		p := parsePacket(raw)
		edit(&p)
		return p.encode()
	}})
}

// Replace sends other bytes instead of the packet, for example several packets or a malformed one.
func (r Reply) Replace(with []byte) *Fault {
	with = bytes.Clone(with)
	return r.arm(&Fault{change: func([]byte) []byte { return with }, raw: true})
}

// Wait waits until the fault has happened. A delayed packet may be sent later. If ctx ends first,
// the error names the packet that was not sent.
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
