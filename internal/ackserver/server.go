package ackserver

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// Options configures a Server. The zero value is ready for use.
type Options struct {
	Addr           string // listen address; "": a free port of 127.0.0.1
	ReceiveMaximum uint16 // announced to clients; 0: 65,535
}

// Server accepts MQTT 5 connections until it is closed. Its methods are safe for concurrent use.
type Server struct {
	options  Options
	listener net.Listener
	received atomic.Int64
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   map[*conn]struct{}
	pending *Run // waits for a subscriber
	closed  bool
}

// New starts a server. The caller must call Close.
func New(o Options) (*Server, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("ackserver: cannot listen on %q, choose another address: %w", o.Addr, err)
	}
	s := &Server{options: o, listener: listener, conns: map[*conn]struct{}{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr returns the host and port on which the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Received returns the number of PUBLISH packets received so far, of any QoS and including repeated
// ones. A packet is counted before it is acknowledged.
func (s *Server) Received() int64 { return s.received.Load() }

// Close ends all connections and waits for all goroutines. A running flood fails.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.nc.Close()
	}
	pending := s.pending
	s.pending = nil
	s.mu.Unlock()
	s.wg.Wait()
	if pending != nil {
		pending.finish(fmt.Errorf("ackserver: closed before a client subscribed: %w", net.ErrClosed))
	}
	return err
}

func (s *Server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := newConn(s, nc)
		s.mu.Lock()
		if s.closed {
			_ = nc.Close()
		} else {
			s.conns[c] = struct{}{}
			s.wg.Go(c.serve)
		}
		s.mu.Unlock()
	}
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
