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

// patience is how long anything may take that must come to an end. Failures alone
// use it up.
const patience = time.Minute

// server plays what it is told to on each connection, over TCP or without
// sockets.
type server struct {
	t  testing.TB
	ln net.Listener // nil: net.Pipe

	mu    sync.Mutex
	play  func(*peer)
	conns map[net.Conn]bool
	count int
	stop  bool
	all   sync.WaitGroup

	sample func()         // takes a look at the heap
	peers  map[int]*peer  // whose play is not over
	taken  map[string]int // payloads that were acknowledged by behave
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

// plays is what happens on connections that begin from now on. Those that stand
// are ended.
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

// connections is how many there were.
func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// over is closed when the attack on the connection with this number is; nil if
// it was before.
func (s *server) over(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peers[n]; p != nil {
		return p.over
	}
	return nil
}

// close ends the server and waits for all that it started.
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

// behave is what a server does that keeps the rules.
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
