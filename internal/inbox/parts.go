package inbox

import (
	"sync"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// receipt is a received PUBLISH that is to be acknowledged.
type receipt struct {
	in    *session.Inbound // nil at QoS 0
	parts *parts           // nil: it has one handler
	size  int64            // in memory, see Size
}

// parts joins the results of a message that has several handlers.
type parts struct {
	mu   sync.Mutex
	left int // handlers that have not finished
	code byte
	text string
}

// finish takes the result of one handler. After the last one it returns that of the message: the
// first refusal, if there is one.
func (p *parts) finish(code byte, text string) (byte, string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left--; p.code < wire.ReasonUnspecifiedError && code >= wire.ReasonUnspecifiedError {
		p.code, p.text = code, text
	}
	return p.code, p.text, p.left == 0
}
