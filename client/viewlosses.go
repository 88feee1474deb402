package client

import (
	"sync"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// viewsObserver receives what views report. No lock is held.
type viewsObserver interface {
	subscriptionFailed(filter string, err error)
	markerFailed(topic string, err error)
	viewFull(filter, topic string, n int)
	changesMissed(filter string, n int)
	panicked(function string, p *callback.Panic)
}

// viewLosses reports what views lose while locks are held. It does so on a goroutine that runs
// while there is something to report, with the number of losses meanwhile.
type viewLosses struct {
	observer viewsObserver

	mu      sync.Mutex
	lost    lostByViews
	running bool
	ended   sync.WaitGroup
}

type lostByViews struct {
	refused, missed   int
	fullFilter, topic string
	missedFilter      string
	function          string
	panicked          *callback.Panic
}

// add adds a loss. It never blocks.
func (l *viewLosses) add(f func(*lostByViews)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.lost)
	if !l.running {
		l.running = true
		l.ended.Go(l.run)
	}
}

func (l *viewLosses) full(filter, topic string) {
	l.add(func(lost *lostByViews) { lost.refused++; lost.fullFilter, lost.topic = filter, topic })
}

func (l *viewLosses) changes(filter string, n int) {
	l.add(func(lost *lostByViews) { lost.missed += n; lost.missedFilter = filter })
}

// panic adds a panic of a function of the application; nil: there was none.
func (l *viewLosses) panic(function string, p *callback.Panic) {
	if p != nil {
		l.add(func(lost *lostByViews) { lost.function, lost.panicked = function, p })
	}
}

func (l *viewLosses) run() {
	for {
		l.mu.Lock()
		lost := l.lost
		l.lost = lostByViews{}
		l.running = lost != lostByViews{}
		l.mu.Unlock()
		if lost == (lostByViews{}) {
			return
		}
		if lost.refused > 0 {
			l.observer.viewFull(lost.fullFilter, lost.topic, lost.refused)
		}
		if lost.missed > 0 {
			l.observer.changesMissed(lost.missedFilter, lost.missed)
		}
		l.observer.panicked(lost.function, lost.panicked)
	}
}

// wait waits until all is reported. All views have been closed.
func (l *viewLosses) wait() { l.ended.Wait() }
