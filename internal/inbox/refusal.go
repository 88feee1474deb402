package inbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ErrUnhandled is returned by Config.Handle for a message without handlers.
var ErrUnhandled = errors.New("client: no handler for this topic")

// Refusal is an error of a handler that refuses a message.
type Refusal struct {
	Code   byte
	Reason string
	Err    error // of the handler; nil: the Refusal itself
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("message refused with reason code 0x%02X: %s", r.Code, r.Reason)
}

// code returns a reason code that a client may send.
func (r *Refusal) code() byte {
	if r.Code < 0x80 || !wire.ValidAckReason(wire.PUBACK, r.Code) {
		return wire.ReasonUnspecifiedError
	}
	return r.Code
}

// maxReason limits a reason string, in bytes.
const maxReason = 1024

// text returns a reason string that MQTT can carry [MQTT-1.5.4-1] [MQTT-1.5.4-2].
func (r *Refusal) text() string {
	text := strings.ReplaceAll(strings.ToValidUTF8(r.Reason, "\uFFFD"), "\x00", "")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}
