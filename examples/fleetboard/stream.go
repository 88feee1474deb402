package main

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// stream sends the board to one browser: first a snapshot, and then the changes. The queue has at most
// maxWaiting messages. If a slow browser fills the queue, the stream discards it and sends a new
// snapshot instead.
type stream struct {
	b       *board
	waiting [][]byte // all fields are protected by board.mu
	behind  bool     // the browser needs a snapshot, and waiting is empty
	over    bool
	news    chan struct{}
	resyncs int
}

const (
	maxWaiting    = 8                // messages, which is two seconds
	maxStreams    = 64               // browsers
	streamTimeout = 10 * time.Second // of a write; then the server disconnects the browser
)

var errTooMany = errors.New("too many browsers are connected; close one and try again")

func (b *board) subscribe() (*stream, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return nil, http.ErrServerClosed
	}
	if len(b.streams) >= maxStreams {
		return nil, errTooMany
	}
	s := &stream{b: b, behind: true, news: make(chan struct{}, 1)}
	s.wake()
	b.streams[s] = struct{}{}
	return s, nil
}

func (s *stream) leave() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	delete(s.b.streams, s)
}

// push is called with board.mu held.
func (s *stream) push(message []byte) {
	switch {
	case s.behind:
	case len(s.waiting) >= maxWaiting:
		s.waiting, s.behind = nil, true
		s.resyncs++
	default:
		s.waiting = append(s.waiting, message)
	}
	s.wake()
}

// close is called with board.mu held.
func (s *stream) close() {
	s.over = true
	s.wake()
}

func (s *stream) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// next waits for messages. It returns nil when the stream or ctx has ended.
func (s *stream) next(ctx context.Context) [][]byte {
	for {
		s.b.mu.Lock()
		switch {
		case s.over:
			s.b.mu.Unlock()
			return nil
		case s.behind && s.b.ticks > 0:
			s.behind = false
			snap := s.b.snapshotLocked()
			s.b.mu.Unlock()
			return [][]byte{snap}
		case len(s.waiting) > 0:
			all := s.waiting
			s.waiting = nil
			s.b.mu.Unlock()
			return all
		}
		s.b.mu.Unlock()
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil
		}
	}
}

// message returns a server-sent event. The JSON data contains no line breaks.
func message(event string, data []byte) []byte {
	out := append([]byte("event: "), event...)
	out = append(append(out, "\ndata: "...), data...)
	return append(out, "\n\n"...)
}

// ServeHTTP sends events until the browser disconnects or the board ends.
func (b *board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := b.subscribe()
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	for {
		all := s.next(r.Context())
		if all == nil {
			return
		}
		// An error means that the connection does not support deadlines, as in tests.
		_ = control.SetWriteDeadline(time.Now().Add(streamTimeout))
		for _, m := range all {
			if _, err := w.Write(m); err != nil {
				return // the browser has disconnected
			}
		}
		if control.Flush() != nil {
			return // the browser has disconnected
		}
	}
}
