package hostile

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// timeout is the maximum time for anything that must end. Only failures use all of it.
const timeout = time.Minute

// server runs a given function on each connection, over TCP or without sockets.
type server struct {
	t  testing.TB
	ln net.Listener // nil: net.Pipe

	mu    sync.Mutex
	play  func(*peer)
	conns map[net.Conn]bool
	count int
	stop  bool
	all   sync.WaitGroup

	sample func()         // takes a sample of the heap
	peers  map[int]*peer  // peers whose function has not returned
	taken  map[string]int // payloads acknowledged by behave
}

func newServer(t testing.TB, tcp bool, play func(*peer)) *server {
	s := &server{t: t, play: play, conns: map[net.Conn]bool{}, taken: map[string]int{}, peers: map[int]*peer{}}
	if !tcp {
		return s
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.ln = ln
	s.all.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			s.serve(nc)
		}
	})
	return s
}

func (s *server) dial(ctx context.Context, _ *url.URL) (net.Conn, error) {
	if s.ln != nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.ln.Addr().String())
	}
	near, far := net.Pipe()
	if !s.serve(far) {
		return nil, errors.New("the server is gone")
	}
	return near, nil
}

func (s *server) serve(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop {
		_ = nc.Close()
		return false
	}
	s.conns[nc] = true
	s.count++
	p := &peer{s: s, nc: nc, n: s.count, gone: make(chan struct{}), changed: make(chan struct{}, 1),
		over: make(chan struct{}), ids: map[byte]uint16{}, reason: -1}
	s.peers[p.n] = p
	play := s.play
	s.all.Go(func() {
		play(p)
		_ = nc.Close()
		close(p.over)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, nc)
		delete(s.peers, p.n)
	})
	return true
}

// plays sets the function for connections that begin from now on. It ends existing connections.
func (s *server) plays(play func(*peer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.play = play
	s.dropLocked()
}

func (s *server) dropLocked() {
	for nc := range s.conns {
		_ = nc.Close()
	}
}

// connections returns the number of connections so far.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// over returns a channel that is closed at the end of the attack on the connection with this
// number, or nil if it has already ended.
func (s *server) over(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[n]; p != nil {
		return p.over
	}
	return nil
}

// close ends the server and waits for all its goroutines.
func (s *server) close() {
	s.mu.Lock()
	s.stop = true
	s.dropLocked()
	s.mu.Unlock()
	if s.ln != nil {
		_ = s.ln.Close()
	}
	s.all.Wait()
}

// behave is the function of a server that behaves correctly.
func (s *server) behave(p *peer) {
	p.behaves = true
	if p.accept(control.Connack{}) {
		<-p.gone
	}
}

func (s *server) take(payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[payload]++
}

func (s *server) took(payload string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[payload] > 0
}
