package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"
)

// line is the network between one client and the broker. The cases interrupt it.
type line struct {
	dial func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	broken bool // new connections fail
	silent bool // all bytes are lost in both directions, without an error
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

// refuse makes new connections fail. An existing connection stays.
func (l *line) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
}

// cut closes the connection without a DISCONNECT, and makes new connections fail.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for _, nc := range l.open {
		_ = nc.Close() // an error does not matter here
	}
	l.open = nil
}

func (l *line) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = false
}

// fallSilent makes the network lose all bytes and the end of the connection.
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

// Read receives nothing from a silent line. It returns when the client closes the connection.
func (e *end) Read(p []byte) (int, error) {
	for {
		n, err := e.Conn.Read(p)
		if err != nil || !e.line.isSilent() {
			return n, err
		}
	}
}

// Close does not reach the broker through a silent line.
func (e *end) Close() error {
	if e.line.isSilent() {
		return e.SetReadDeadline(time.Unix(1, 0))
	}
	return e.Conn.Close()
}
