package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/retained"
)

// SetRetained publishes payload as the retained message of topic. The server sends it to new
// subscribers. SetRetained stores the message and publishes it at QoS 1, as Publish does. To set
// other properties, call Publish with Retain.
func (c *Client) SetRetained(ctx context.Context, topic string, payload []byte) (*Delivery, error) {
	if len(payload) == 0 {
		return nil, &FieldError{Field: "Payload", Problem: "is empty, which clears a retained message [MQTT-3.3.1-6]; use ClearRetained to clear it"}
	}
	return c.Publish(ctx, Message{Topic: topic, Payload: payload, QoS: AtLeastOnce, Retain: true})
}

// ClearRetained removes the retained message of topic. Subscribers receive an empty message.
// ClearRetained stores this message and publishes it at QoS 1, as Publish does.
func (c *Client) ClearRetained(ctx context.Context, topic string) (*Delivery, error) {
	return c.Publish(ctx, Message{Topic: topic, QoS: AtLeastOnce, Retain: true})
}

// RetainedOptions limit what a fetch or a mirror keeps. Zero values select the defaults.
type RetainedOptions struct {
	MaxMessages int // default 100,000
	MaxBytes    int // limit of topics, payloads and properties in memory; default 64 MiB
	// Silence is the time without a message after which a fetch is complete. Silence applies if the
	// client published no marker message. With a marker, ten times Silence applies. Default 1 s.
	Silence time.Duration
	// Queue limits the changes that wait for a reader of RetainedView.Changes. Default 1,024. The
	// messages of these changes take at most MaxBytes.
	Queue int
}

// RetainedLimitError reports that the retained messages exceed the limits in RetainedOptions.
type RetainedLimitError struct{ Messages, Bytes int } // number and size of the messages that were kept

func (e *RetainedLimitError) Error() string {
	return fmt.Sprintf("client: too many retained messages: only %d messages of %d bytes were kept; use a narrower filter, or raise MaxMessages or MaxBytes", e.Messages, e.Bytes)
}

// SafeToRetry returns true, because retained messages were only read.
func (*RetainedLimitError) SafeToRetry() bool { return true }

// Retained is the result of FetchRetained.
type Retained struct {
	Messages []*Message // one per topic, ordered by topic
	End      SyncEnd    // ByMarker or BySilence; after BySilence, messages may be missing
}

// FetchRetained returns the retained messages of all topics that match filter. FetchRetained waits
// for a connection. If the connection is lost, FetchRetained starts again on the next connection,
// until ctx ends.
//
// FetchRetained subscribes to filter while it runs. The application's own subscriptions stay
// unchanged and miss no message, even if their filters overlap. The application's handlers may
// receive retained messages again if the server does not support Subscription Identifiers or if the
// application uses RetainAsPublished. Without Subscription Identifiers, these handlers may also
// receive a message twice that is published during the fetch.
//
// If another fetch of the same filter has not begun yet, both run as one. If the other fetch has
// begun, the new one waits for its end. A watch or a mirror of the same filter also fetches its
// messages again at that time.
//
// After its SUBSCRIBE, the client publishes a message (the marker) to Config.Presence.MarkerTopic.
// The server delivers the marker after the retained messages, so the client detects their end. If
// the server refuses the marker, the client detects the end by a time without messages, see
// Retained.End.
//
// Errors: *FieldError, *RefusedError (0x9A: the server does not support retained messages),
// *RetainedLimitError, ErrTooManyFilters, ErrClosed, and the cause of ctx.
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
	case ctx.Err() != nil: // the end of ctx closes v
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	return &Retained{Messages: slices.Collect(v.All()), End: end}, nil
}
