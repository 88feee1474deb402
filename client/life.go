package client

import (
	"context"
	"sync"
	"time"
)

// life is the life of a client. It begins with New, runs from Start, and ends once.
type life struct {
	phase  phaseTracker
	ending context.Context // ends when the client begins to end; later calls return its cause as their error
	end    context.CancelCauseFunc
	done   chan struct{} // closed when all goroutines have ended
	reads  chan struct{} // limits the goroutines that read receipts: on a disk that hangs, they do not end

	starting                           sync.WaitGroup // reads set-aside messages, then begins the tasks
	connecting, sending, acknowledging task           // from Start

	mu         sync.Mutex
	started    bool
	begun      bool // the tasks have begun
	draining   bool
	ended      bool              // the end has begun
	err        error             // why the client stopped; nil after Close and Drain
	disconnect DisconnectOptions // of a clean end
	deadline   time.Time         // deadline of the steps of teardown; used only by the goroutine of teardown
	closeErr   error             // error of closing the store; set before done is closed
}

func (l *life) init() {
	l.done, l.reads = make(chan struct{}), make(chan struct{}, 8)
	l.ending, l.end = context.WithCancelCause(context.Background())
	l.phase.enter(ConnectionState{Phase: PhaseIdle})
}

// task is a goroutine of the client with one way to stop it.
type task struct {
	sync.WaitGroup
	stop context.CancelFunc
}

const (
	// disconnectTime is the time for acknowledgements, offline status and DISCONNECT if handlers
	// have used up CloseTimeout.
	disconnectTime = 700 * time.Millisecond
	// stepTime is the minimum time of a step of teardown.
	stepTime = 100 * time.Millisecond
)

// timeLeft returns how long the next step of teardown may take.
func (l *life) timeLeft() time.Duration { return max(stepTime, time.Until(l.deadline)) }
