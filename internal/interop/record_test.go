package interop

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/client"
)

// record is a list that other goroutines append to and a test waits for. The zero value is empty.
type record[T any] struct {
	mu   sync.Mutex
	list []T
	grew chan struct{} // closed and replaced; nil: nothing waits
}

func (l *record[T]) add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, v)
	if l.grew != nil {
		close(l.grew)
		l.grew = nil
	}
}

func (l *record[T]) snapshot() (list []T, grew <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grew == nil {
		l.grew = make(chan struct{})
	}
	return slices.Clone(l.list), l.grew
}

// await waits until the list satisfies the test and returns it. It fails the test if that takes too
// long.
func (l *record[T]) await(r *run, what string, enough func([]T) bool) []T {
	r.Helper()
	for {
		list, grew := l.snapshot()
		if enough(list) {
			return list
		}
		select {
		case <-grew:
		case <-r.ctx.Done():
			r.Fatalf("waited too long for %s; there are %d: %s", what, len(list), brief(list))
		}
	}
}

// awaitN waits for at least n entries.
func (l *record[T]) awaitN(r *run, what string, n int) []T {
	r.Helper()
	return l.await(r, fmt.Sprintf("%d %s", n, what), func(list []T) bool { return len(list) >= n })
}

// brief returns the end of a list as text.
func brief[T any](list []T) string {
	const last = 20
	s := ""
	for _, v := range list[max(0, len(list)-last):] {
		if m, ok := any(v).(*client.Message); ok {
			s += fmt.Sprintf("\n\t%s: %.40q", m.Topic, m.Payload)
			continue
		}
		s += fmt.Sprintf("\n\t%+v", v)
	}
	return s
}

// inbox is a handler that records messages.
type inbox struct{ record[*client.Message] }

func (in *inbox) Handle(_ context.Context, m *client.Message) error {
	in.add(m)
	return nil
}

// fence publishes one more message and waits until it arrives. By then, earlier messages on its
// topic have arrived, and so have all messages that a broker resends.
func (r *run) fence(c *client.Client, in *inbox, topic string, qos client.QoS) {
	r.Helper()
	d := r.publish(c, client.Message{Topic: topic, Payload: []byte(fenceText), QoS: qos})
	in.await(r, "the fence on "+topic, func(list []*client.Message) bool {
		return slices.ContainsFunc(list, func(m *client.Message) bool { return m.ID == d.ID })
	})
}

const fenceText = "fence"

// texts returns the payloads received on a topic, in order, without fences.
func (in *inbox) texts(topic string) (texts []string) {
	list, _ := in.snapshot()
	for _, m := range list {
		if text := string(m.Payload); m.Topic == topic && text != fenceText {
			texts = append(texts, text)
		}
	}
	return texts
}

// expectExactly checks that each message in want arrived once and in order.
func (r *run) expectExactly(in *inbox, topic string, want []string) {
	r.Helper()
	got := in.texts(topic)
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			r.Errorf("%s: %d messages came and %d were accepted; from number %d on:\n got %.120q\nwant %.120q", topic,
				len(got), len(want), i, got[min(i, len(got)):min(i+12, len(got))], want[min(i, len(want)):min(i+12, len(want))])
			return
		}
	}
}

// expectAtLeast checks that each message in want arrived, and that the first copies are in order.
func (r *run) expectAtLeast(in *inbox, topic string, want []string) {
	r.Helper()
	var first []string
	seen := map[string]bool{}
	for _, text := range in.texts(topic) {
		if !seen[text] {
			seen[text] = true
			first = append(first, text)
		}
	}
	if !slices.Equal(first, want) {
		r.Errorf("%s: without duplicates %d messages came and %d were accepted:\n got %.400q\nwant %.400q", topic, len(first), len(want), first, want)
	}
}

// expectOnce checks that QoS 2 messages arrived exactly once at a receiver without dedupe. That
// depends on the broker's sending and the client's acknowledging only.
func (r *run) expectOnce(in *inbox, topic string, want []string) {
	r.Helper()
	again := len(in.texts(topic)) - len(want)
	if again <= 0 || !r.broker.Traits().repeatsComplete {
		r.expectExactly(in, topic, want)
		return
	}
	r.Logf("departs from [MQTT-4.3.3-6]: it sent %d QoS 2 messages again after their PUBREL", again)
	r.expectAtLeast(in, topic, want)
}

// numbered returns the payload that the tests publish.
func numbered(n int) string { return fmt.Sprintf("%05d", n) }

func numberedUpTo(n int) (all []string) {
	for i := range n {
		all = append(all, numbered(i))
	}
	return all
}
