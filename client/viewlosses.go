package client

import (
	"sync"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// viewsObserver receives the reports of views. It is called without locks.
type viewsObserver interface {
	subscriptionFailed(filter string, err error)
	markerFailed(topic string, err error)
	viewFull(filter, topic string, n int)
	changesMissed(filter string, n int)
	panicked(function string, p *callback.Panic)
}

// viewLosses reports losses of views that are detected while locks are held. It sums them up and
// reports them on a goroutine that runs only while there is something to report.
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

// add records a loss. It never blocks.
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

// panic records a panic of a function of the application. p may be nil.
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

// wait waits until all losses are reported. The caller has closed all views.
func (l *viewLosses) wait() { l.ended.Wait() }
