package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/retained"
)

// SetRetained publishes payload as the retained message of topic: the server gives
// it to everyone who subscribes from then on. It is a durable Publish at QoS 1; for
// other properties call that, with Retain set.
func (c *Client) SetRetained(ctx context.Context, topic string, payload []byte) (*Delivery, error) {
	if len(payload) == 0 {
		return nil, &FieldError{Field: "Payload", Problem: "is empty, which clears a retained message [MQTT-3.3.1-6]; call ClearRetained if that is meant"}
	}
	return c.Publish(ctx, Message{Topic: topic, Payload: payload, QoS: AtLeastOnce, Retain: true})
}

// ClearRetained takes the retained message of topic back. Who has subscribed hears
// of an empty message. It is a durable Publish at QoS 1.
func (c *Client) ClearRetained(ctx context.Context, topic string) (*Delivery, error) {
	return c.Publish(ctx, Message{Topic: topic, QoS: AtLeastOnce, Retain: true})
}

// RetainedOptions bound what is fetched or mirrored. The zero value is useful.
type RetainedOptions struct {
	MaxMessages int // default 100,000
	MaxBytes    int // of topics, payloads and properties in memory; default 64 MiB
	// Silence is how long nothing must come until that counts as the end, where no
	// marker tells it; ten times that where the marker is under way. Default 1 s.
	Silence time.Duration
	// Queue is how many changes a reader of a RetainedView may be behind. Default
	// 1,024.
	Queue int
}

func (o RetainedOptions) withDefaults() RetainedOptions {
	def(&o.MaxMessages, 100_000)
	def(&o.MaxBytes, 64<<20)
	def(&o.Silence, time.Second)
	def(&o.Queue, 1024)
	return o
}

// RetainedLimitError says that more is retained than RetainedOptions allow.
type RetainedLimitError struct{ Messages, Bytes int } // that were taken

func (e *RetainedLimitError) Error() string {
	return fmt.Sprintf("client: more is retained than MaxMessages or MaxBytes allow: it ended behind %d messages of %d bytes; use a narrower filter, or raise them", e.Messages, e.Bytes)
}

// Retained is what FetchRetained found.
type Retained struct {
	Messages []*Message // one for each topic, as they came
	// End says how it is known that these are all: ByMarker, or BySilence, which is
	// a guess.
	End SyncEnd
}

// FetchRetained returns the retained messages of all topics that match filter, as
// they are at one moment. It waits for a connection, and begins anew on the next
// one if the link is lost, until ctx ends.
//
// It subscribes for as long as it takes. A subscription of the program's to the
// same filter, or one that overlaps, stays as it is and misses nothing: its
// handlers do not see what is fetched, if the server knows Subscription
// Identifiers and the program uses no RetainAsPublished; else they may see retained
// messages again. Messages that are published meanwhile may come to handlers twice
// at a server without them, or that refuses the marker.
//
// A fetch joins one of the same filter that is about to begin, and waits for one
// that has begun. A watch or a mirror of the same filter is filled anew along with it.
//
// How the end is known: behind the SUBSCRIBE a message goes to a topic of our own,
// Config.Presence.MarkerTopic, and comes back behind the retained ones. Where the server
// refuses that, the end is a guess, see Retained.End.
//
// Errors: *FieldError, *RefusedError (0x9A: the server has no retained messages),
// *RetainedLimitError, ErrTooManyFilters, ErrClosed, and ctx's cause.
func (c *Client) FetchRetained(ctx context.Context, filter string, o RetainedOptions) (*Retained, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	if err := checkRetainedFilter(filter); err != nil {
		return nil, err
	}
	f := &fetch{o: o.withDefaults(), done: make(chan struct{})}
	use := &retained.View{Filter: filter, Silence: f.o.Silence, User: f}
	if c.life.ending.Err() != nil {
		return nil, ErrClosed
	}
	if err := c.views.add(use); err != nil {
		return nil, ErrTooManyFilters
	}
	defer c.views.remove(use)
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.life.ending.Done():
		return nil, ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	return &f.found, nil
}

// fetch is one FetchRetained.
type fetch struct {
	o    RetainedOptions
	done chan struct{} // closed at the end

	mu    sync.Mutex
	ended bool
	bytes int
	at    map[string]int // where in found a topic is
	found Retained
	err   error
}

func (f *fetch) take(m *Message, from retained.Origin) {
	if from != retained.Fill || !m.Retain || len(m.Payload) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	f.bytes += m.size()
	if i, again := f.at[m.Topic]; again {
		f.bytes -= f.found.Messages[i].size()
		f.found.Messages[i] = m
	} else {
		if f.at == nil {
			f.at = map[string]int{}
		}
		f.at[m.Topic] = len(f.found.Messages)
		f.found.Messages = append(f.found.Messages, m)
	}
	if len(f.found.Messages) > f.o.MaxMessages || f.bytes > f.o.MaxBytes {
		f.endLocked(&RetainedLimitError{len(f.found.Messages) - 1, f.bytes - m.size()})
	}
}

func (f *fetch) filled(end SyncEnd) (again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.found.End = end
		f.endLocked(nil)
	}
	return false
}

func (f *fetch) lost(time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.found, f.at, f.bytes = Retained{}, nil, 0
	}
}

func (f *fetch) refill(bool) { f.lost(time.Time{}) }

func (f *fetch) refused(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.endLocked(err)
	}
}

func (f *fetch) endLocked(err error) {
	f.ended, f.err = true, err
	close(f.done)
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
