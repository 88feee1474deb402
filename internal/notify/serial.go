package notify

import "sync"

// Serial calls a function for values, one at a time, on a goroutine that runs while there are
// values. Set Handle before the first use. All methods are safe for concurrent use.
type Serial[T any] struct {
	Handle  func(T)
	mu      sync.Mutex
	list    []T
	running bool
}

// Do makes Serial call Handle for v, after the values of earlier calls. It does not wait.
func (s *Serial[T]) Do(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, v)
	if !s.running {
		s.running = true
		go s.run()
	}
}

func (s *Serial[T]) run() {
	for {
		s.mu.Lock()
		if len(s.list) == 0 {
			s.list, s.running = nil, false
			s.mu.Unlock()
			return
		}
		v := s.list[0]
		s.list = s.list[1:]
		s.mu.Unlock()
		s.Handle(v)
	}
}
