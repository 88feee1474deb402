package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/retained"
)

// SetRetained publishes payload as the retained message of topic, which the server sends to new
// subscribers. It is a durable Publish at QoS 1; for other properties call Publish with Retain set.
func (c *Client) SetRetained(ctx context.Context, topic string, payload []byte) (*Delivery, error) {
	if len(payload) == 0 {
		return nil, &FieldError{Field: "Payload", Problem: "is empty, which clears a retained message [MQTT-3.3.1-6]; call ClearRetained if that is meant"}
	}
	return c.Publish(ctx, Message{Topic: topic, Payload: payload, QoS: AtLeastOnce, Retain: true})
}

// ClearRetained removes the retained message of topic. Present subscribers get an
// empty message. It is a durable Publish at QoS 1.
func (c *Client) ClearRetained(ctx context.Context, topic string) (*Delivery, error) {
	return c.Publish(ctx, Message{Topic: topic, QoS: AtLeastOnce, Retain: true})
}

// RetainedOptions limit what is fetched or mirrored. The zero value is useful.
type RetainedOptions struct {
	MaxMessages int // default 100,000
	MaxBytes    int // of topics, payloads and properties in memory; default 64 MiB
	// Silence is how long nothing must come until that counts as the end, if no
	// marker is on its way; otherwise ten times as long. Default 1 s.
	Silence time.Duration
	// Queue is how many changes wait for a reader of RetainedView.Changes. Default 1,024. Their messages
	// take MaxBytes at most.
	Queue int
}

// RetainedLimitError is returned when more is retained than RetainedOptions allow.
type RetainedLimitError struct{ Messages, Bytes int } // that were taken

func (e *RetainedLimitError) Error() string {
	return fmt.Sprintf("client: more is retained than MaxMessages or MaxBytes allow: %d messages of %d bytes were taken; use a narrower filter, or raise the limit", e.Messages, e.Bytes)
}

// SafeToRetry returns true: retained messages were only read.
func (*RetainedLimitError) SafeToRetry() bool { return true }

// Retained is the result of FetchRetained.
type Retained struct {
	Messages []*Message // one for each topic, ordered by topic
	End      SyncEnd    // ByMarker, or BySilence, which is a guess
}

// FetchRetained returns the retained messages of all topics that match filter. It waits for a
// connection, and starts again on the next one if the connection is lost, until ctx ends.
//
// It subscribes for the time that it takes. The application's own subscriptions to the
// same filter, or to one that overlaps, stay as they are and miss nothing. Their
// handlers may get retained messages again if the server has no Subscription
// Identifiers or the application uses RetainAsPublished; at a server without
// Subscription Identifiers, also messages that are published meanwhile.
//
// A fetch joins one of the same filter that is about to begin, and waits for one that
// has begun. A watch or a mirror of the same filter is fetched again along with it.
//
// To find the end, the client publishes a message to Config.Presence.MarkerTopic after
// its SUBSCRIBE; it comes back after the retained messages. If the server refuses
// that, the end is a guess, see Retained.End.
//
// Errors: *FieldError, *RefusedError (0x9A: the server has no retained messages),
// *RetainedLimitError, ErrTooManyFilters, ErrClosed, and ctx's cause.
func (c *Client) FetchRetained(ctx context.Context, filter string, o RetainedOptions) (*Retained, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	v := newRetainedView(o)
	v.once = true
	if err := v.begin(ctx, c.life.ending, &c.views, retained.View{Filter: filter, Silence: v.o.Silence, User: v}); err != nil {
		return nil, err
	}
	defer v.Close()
	end, err := v.Synced(ctx)
	switch {
	case ctx.Err() != nil: // which closes v
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	return &Retained{Messages: slices.Collect(v.All()), End: end}, nil
}

// userPropertyBytes is what a user property takes in memory, beside its text.
const userPropertyBytes = 32

// size is about what a message takes in memory, in bytes.
func (m *Message) size() int {
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += userPropertyBytes + len(p.Key) + len(p.Value)
	}
	return n
}
