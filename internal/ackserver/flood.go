package ackserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Flood describes the messages for a subscriber.
type Flood struct {
	Messages    int      // number of messages
	QoS         byte     // 0, 1 or 2; reduced to the QoS of the subscription
	PayloadSize int      // in bytes; from 8 on, the first 8 bytes are the message number, big-endian, from 0
	Topics      []string // used in rotation; nil: "bench"
}

// ErrBusy means that a flood is already waiting for a subscriber. It must begin first.
var ErrBusy = errors.New("ackserver: a flood is waiting for a client to subscribe; subscribe, or wait for it")

// Run is a requested flood. Its methods are safe for concurrent use.
type Run struct {
	flood Flood
	acked atomic.Int64
	done  chan struct{}
	err   error // valid after done is closed
}

// Done returns a channel that is closed when the flood has ended. It ends when the last message is
// completely acknowledged, at QoS 0 when it is written, or when the flood has failed.
func (r *Run) Done() <-chan struct{} { return r.done }

// Acked returns the number of messages acknowledged so far, including refusals.
func (r *Run) Acked() int64 { return r.acked.Load() }

// Err returns the reason why the flood failed. It is nil until Done is closed.
func (r *Run) Err() error {
	select {
	case <-r.done:
		return r.err
	default:
		return nil
	}
}

func (r *Run) finish(err error) {
	if err != nil {
		r.err = fmt.Errorf("flood failed after %d of %d messages: %w", r.Acked(), r.flood.Messages, err)
	}
	close(r.done)
}

// Flood sends f to a client that has subscribed and is not being flooded, or else to the next one
// that subscribes. It sends as fast as the client's Receive Maximum allows.
func (s *Server) Flood(f Flood) (*Run, error) {
	r := &Run{flood: f, done: make(chan struct{})}
	if f.Messages < 1 {
		return nil, errors.New("ackserver: Flood.Messages must be at least 1")
	}
	if len(f.Topics) == 0 {
		r.flood.Topics = []string{"bench"}
	}
	for _, topic := range r.flood.Topics {
		p := wire.Publish{QoS: f.QoS, Topic: topic, Payload: make([]byte, max(f.PayloadSize, 0))}
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("ackserver: Flood: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("ackserver: %w", net.ErrClosed)
	}
	for c := range s.conns {
		if c.granted != nil && s.start(c, r) {
			return r, nil
		}
	}
	if s.pending != nil {
		return nil, ErrBusy
	}
	s.pending = r
	return r, nil
}

// subscribed is called when c has subscribed with at most the given QoS.
func (s *Server) subscribed(c *conn, qos byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.granted = &qos
	if s.pending != nil && !s.closed && s.start(c, s.pending) {
		s.pending = nil
	}
}

// start begins r on c if c is free. s.mu must be held.
func (s *Server) start(c *conn, r *Run) bool {
	if !c.window.begin(r) {
		return false
	}
	qos := min(r.flood.QoS, *c.granted)
	s.wg.Go(func() { c.flood(r, qos) })
	return true
}

// flood writes all messages, many per call.
func (c *conn) flood(r *Run, qos byte) {
	due := [...]wire.Type{0, wire.PUBACK, wire.PUBREC}[qos]
	images := make([][]byte, len(r.flood.Topics))
	for i, topic := range r.flood.Topics {
		images[i] = wire.AppendPublish(nil, &wire.Publish{QoS: qos, Topic: topic, Payload: make([]byte, r.flood.PayloadSize)})
	}
	out := make([]byte, 0, flushAt+len(images[0]))
	ids := make([]uint16, 0, 1024)
	for sent := 0; sent < r.flood.Messages; {
		n := min(cap(ids), r.flood.Messages-sent)
		if ids = ids[:0]; qos > 0 {
			var err error
			if ids, err = c.window.take(ids, n, due); err != nil {
				return
			}
		} else {
			ids = ids[:n] // unused at QoS 0
		}
		out = out[:0]
		for i, id := range ids {
			out = wire.AppendImage(out, images[sent%len(images)], id, false, 0)
			if size := r.flood.PayloadSize; size >= 8 {
				binary.BigEndian.PutUint64(out[len(out)-size:], uint64(sent))
			}
			sent++
			if len(out) < flushAt && i < len(ids)-1 {
				continue
			}
			if _, err := c.nc.Write(out); err != nil {
				_ = c.nc.Close() // ends the reader, and with it the flood
				return
			}
			out = out[:0]
		}
		if qos == 0 {
			c.window.mu.Lock()
			c.window.done(int64(n))
			c.window.mu.Unlock()
		}
	}
}
