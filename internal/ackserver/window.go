package ackserver

import (
	"fmt"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// window limits a flood to the client's Receive Maximum, and checks that the client acknowledges
// each message exactly once. The flood takes packet identifiers, and the reader returns them.
type window struct {
	mu     sync.Mutex
	change sync.Cond
	free   []uint16    // ring of unused identifiers; its size is the Receive Maximum
	head   int         // index of the first unused identifier
	count  int         // number of unused identifiers
	expect []wire.Type // by identifier: the expected acknowledgement, or 0
	run    *Run
	err    error // set when the connection has ended
}

// ack is an acknowledgement from the client.
type ack struct {
	kind   wire.Type
	reason byte
	id     uint16
}

func (w *window) init() { w.change.L = &w.mu }

// open fills the window with n identifiers.
func (w *window) open(n uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = make([]uint16, n)
	w.expect = make([]wire.Type, int(n)+1)
	for i := range w.free {
		w.free[i] = uint16(i) + 1
	}
	w.count = int(n)
}

// begin makes run the flood of this connection. It returns false if there is already one or the
// connection has ended.
func (w *window) begin(run *Run) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run != nil || w.err != nil {
		return false
	}
	w.run = run
	return true
}

// take appends at least one and at most n identifiers to ids. If necessary, it waits for the
// client. first is the acknowledgement that is expected for them.
func (w *window) take(ids []uint16, n int, first wire.Type) ([]uint16, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.count == 0 && w.err == nil {
		w.change.Wait()
	}
	if w.err != nil {
		return ids, w.err
	}
	for range min(n, w.count) {
		id := w.free[w.head]
		w.head = (w.head + 1) % len(w.free)
		w.count--
		w.expect[id] = first
		ids = append(ids, id)
	}
	return ids, nil
}

// apply processes the client's acknowledgements and appends the PUBRELs that answer them to out.
func (w *window) apply(out []byte, acks []ack) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var done int64
	for _, a := range acks {
		if int(a.id) >= len(w.expect) || w.expect[a.id] != a.kind {
			return out, fmt.Errorf("%v for packet identifier %d, which does not wait for one", a.kind, a.id)
		}
		if a.kind == wire.PUBREC && a.reason < 0x80 {
			w.expect[a.id] = wire.PUBCOMP
			out = wire.AppendAck(out, wire.Ack{Type: wire.PUBREL, PacketID: a.id})
			continue
		}
		w.expect[a.id] = 0
		w.free[(w.head+w.count)%len(w.free)] = a.id
		w.count++
		done++
	}
	if done > 0 {
		w.change.Signal()
		w.done(done)
	}
	return out, nil
}

// done counts n completed messages of the flood, and ends the flood after the last one. w.mu must
// be held.
func (w *window) done(n int64) {
	if w.run != nil && w.run.acked.Add(n) == int64(w.run.flood.Messages) {
		w.run.finish(nil)
		w.run = nil
	}
}

// close fails the running flood, if there is one.
func (w *window) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	w.change.Signal()
	if w.run != nil {
		w.run.finish(err)
		w.run = nil
	}
}
