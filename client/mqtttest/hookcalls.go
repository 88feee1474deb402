package mqtttest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
)

// hookLimit is how long Close waits for a hook after the end of its context.
const hookLimit = 2 * time.Second

// hookCalls calls the hooks of Options on one goroutine of a connection.
type hookCalls struct {
	ctx     context.Context
	cancel  context.CancelFunc
	guard   callback.Guard
	running atomic.Pointer[hookCall] // nil if no hook is running
}

type hookCall struct{ hook, clientID string }

func (h *hookCalls) call(hookName, clientID string, hook func(context.Context)) {
	defer h.guard.Enter()()
	h.running.Store(&hookCall{hookName, clientID})
	defer h.running.Store(nil)
	hook(h.ctx)
}

// inside reports whether the calling goroutine is inside a hook.
func (h *hookCalls) inside() bool { return h.running.Load() != nil && h.guard.Inside() }
