package persistence

import (
	"errors"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Enqueue implements [Store]. If the buffer is full, it waits for a commit.
func (l *Log) Enqueue(m *Message) (Ticket, error) {
	accepted, expires := l.state.times(m)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := l.usable(); err != nil {
			return Ticket{}, err
		}
		if l.outage != nil {
			return Ticket{}, l.outage
		}
		b := l.pipe.open
		a, err := admission{}, errUncommitted
		if len(b.buf) == 0 || len(b.buf)+len(m.Packet)+len(m.Key)+record.MaxOverhead <= l.o.Files.BufferBytes {
			a, err = l.state.admit(m)
		}
		if err == nil && l.waste.size+int64(len(b.buf)+len(m.Packet)) > l.o.Limits.MaxDiskBytes {
			err = l.makeRoom()
		}
		switch err {
		case nil:
			return l.state.accept(b, m, accepted, expires, a), nil
		case errAgain:
			err = nil
		case errUncommitted:
			err = l.flush()
		}
		if err != nil {
			return Ticket{}, err
		}
	}
}

// errAgain is returned by makeRoom if another try may succeed.
var errAgain = errors.New("another try may succeed")

// makeRoom frees disk space, with mu held. Errors: errAgain, errUncommitted, ErrFull.
func (l *Log) makeRoom() error {
	switch s := l.state.catalog.Segments[0]; {
	case s != l.state.catalog.Active() && s.Alive+s.Dead == 0 && s.Emptied > l.pipe.durable:
		// The segment can be removed once the done records are durable.
		l.pipe.open.force = true
		return errUncommitted
	case l.waste.compaction.running || l.waste.removing:
		l.awaitRoom()
	case !l.squeeze():
		return &FullError{Limit: "MaxDiskBytes", Max: l.o.Limits.MaxDiskBytes}
	}
	return errAgain
}

// awaitRoom waits, with mu held before and after, for more room or for Close.
func (l *Log) awaitRoom() {
	if l.closed {
		return
	}
	changed := l.room.Changed()
	l.waste.waiters++
	l.mu.Unlock()
	<-changed
	l.mu.Lock()
	l.waste.waiters--
}

// signalRoom wakes those who wait for room, with mu held.
func (l *Log) signalRoom() {
	if l.waste.waiters > 0 {
		l.room.Notify()
	}
}
