package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// progress prints the progress of the run. On a terminal, it updates one line. Otherwise it prints a
// line every 4 seconds.
type progress struct {
	s    *stage
	live bool
	quit chan struct{}
	wg   sync.WaitGroup
}

func startProgress(s *stage) *progress {
	info, err := os.Stdout.Stat()
	p := &progress{s: s, live: err == nil && info.Mode()&os.ModeCharDevice != 0, quit: make(chan struct{})}
	p.wg.Go(p.run)
	return p
}

func (p *progress) stop() {
	close(p.quit)
	p.wg.Wait()
	if p.live {
		fmt.Print("\r\x1b[K")
	}
}

func (p *progress) run() {
	every := 4 * time.Second
	if p.live {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	begin := time.Now()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
		}
		line := p.line(time.Since(begin))
		if p.live {
			fmt.Print("\r\x1b[K" + line)
		} else {
			fmt.Println(line)
		}
	}
}

func (p *progress) line(since time.Duration) string {
	s := p.s
	rows, err := s.results()
	if err != nil {
		return err.Error()
	}
	cuts := s.deviceLink.Stats().Cuts + s.backendLink.Stats().Cuts
	r := s.referee
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%5.1fs  accepted %d  delivered %d  cuts %d  device up %d times  last: %s",
		since.Seconds(), len(r.accepted), len(rows), cuts, r.links["device"].ups, r.last)
}
