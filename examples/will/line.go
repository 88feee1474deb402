package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"
)

// line is the network between one client and the broker, which a case breaks.
type line struct {
	dial func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	broken bool // nothing gets through to the broker
	silent bool // what is said and heard is lost, and nobody is told
	open   []net.Conn
}

var errBroken = errors.New("the link is cut")

// Dial is a client.Config.Connection.Dial.
func (l *line) Dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return nil, errBroken
	}
	nc, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.open = append(l.open, nc)
	return &end{Conn: nc, line: l}, nil
}

// refuse lets no further connection through; the one that stands stays.
func (l *line) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
}

// cut ends the connection without a word of MQTT.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for _, nc := range l.open {
		_ = nc.Close() // it ends either way
	}
	l.open = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = false
}

// fallSilent leaves the broker with a connection that nothing comes on, not
// even its end.
func (l *line) fallSilent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken, l.silent = true, true
}

func (l *line) isSilent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent
}

// end is the client's end of a connection.
type end struct {
	net.Conn
	line *line
}

func (e *end) Write(p []byte) (int, error) {
	if e.line.isSilent() {
		return len(p), nil
	}
	return e.Conn.Write(p)
}

// Read hears nothing from a line that is silent, until the client gives up.
func (e *end) Read(p []byte) (int, error) {
	for {
		n, err := e.Conn.Read(p)
		if err != nil || !e.line.isSilent() {
			return n, err
		}
	}
}

// Close does not get through a silent line.
func (e *end) Close() error {
	if e.line.isSilent() {
		return e.SetReadDeadline(time.Unix(1, 0))
	}
	return e.Conn.Close()
}
