package session

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// lockedWriter is a connection whose output has the order of its encoders.
type lockedWriter struct {
	mu  sync.Mutex
	out []byte
}

func (w *lockedWriter) Send(encode func([]byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = encode(w.out)
	return nil
}

func (w *lockedWriter) Fail(error) {}

// Many goroutines publish to more topics than there are aliases, one packet or a batch at a time. A
// server that knows only the earlier packets of the connection can resolve every alias.
func TestAliases_AssignedInOrderOfSending(t *testing.T) {
	const max, publishers, each = 5, 8, 400
	w := &lockedWriter{}
	s := New(Config{Store: newStore(), TopicAliases: max + 3})
	s.Begin(false)
	g := s.Attach(w, Limits{TopicAliasMaximum: max})
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range each {
				_ = g.Publish(func(dst []byte) []byte {
					for range 1 + r.IntN(3) {
						topic := fmt.Sprintf("plant/%d", r.IntN(3*max))
						dst = wire.AppendPublish(dst, &wire.Publish{Topic: topic, Payload: []byte(topic)})
					}
					return dst
				})
			}
		})
	}
	wg.Wait()
	known, short := map[uint16]string{}, 0
	for r := wire.NewReader(bytes.NewReader(w.out), 0); ; {
		f, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		v, err := wire.ParsePublish(f)
		if err != nil {
			t.Fatal(err)
		}
		switch topic := string(v.Topic); {
		case v.TopicAlias == 0 || v.TopicAlias > max:
			t.Fatalf("alias %d, and the server takes up to %d", v.TopicAlias, max)
		case topic == "":
			short++
		default:
			known[v.TopicAlias] = topic
		}
		if known[v.TopicAlias] != string(v.Payload) {
			t.Fatalf("a message for %q came to %q", v.Payload, known[v.TopicAlias])
		}
	}
	if short == 0 {
		t.Error("no topic was left out")
	}
	if len(g.sending.byTopic) != max || g.sending.recent.Len() != max {
		t.Errorf("%d topics are kept, want %d", len(g.sending.byTopic), max)
	}
}

// A huge batch does not leave a huge buffer.
func TestAliases_KeepNoLargeBuffer(t *testing.T) {
	s := New(Config{Store: newStore(), TopicAliases: 1})
	s.Begin(false)
	g := s.Attach(&lockedWriter{}, Limits{TopicAliasMaximum: 1})
	_ = g.Publish(func(dst []byte) []byte {
		return wire.AppendPublish(dst, &wire.Publish{Topic: "plant", Payload: make([]byte, 2*maxSpare)})
	})
	if n := cap(g.sending.packets); n > maxSpare {
		t.Errorf("%d bytes are kept", n)
	}
}

// Similar topics have different aliases. The least recently used topic loses its alias, not the one
// that has just taken an alias over.
func TestAliases_SimilarTopics(t *testing.T) {
	w := &lockedWriter{}
	s := New(Config{Store: newStore(), TopicAliases: 2})
	s.Begin(false)
	g := s.Attach(w, Limits{TopicAliasMaximum: 2})
	for _, step := range []struct {
		topic string
		alias uint16
		short bool
	}{
		{"a/plant", 1, false}, {"b/plant", 2, false}, {"a/plant", 1, true}, {"b/plant", 2, true},
		{"c/plant", 1, false}, {"d/plant", 2, false}, {"c/plant", 1, true}, {"d/plant", 2, true},
		{"c/plant", 1, true}, {"d/plane", 2, false}, {"c/plant", 1, true}, {"d/plane", 2, true},
	} {
		w.out = nil
		_ = g.Publish(func(dst []byte) []byte { return wire.AppendPublish(dst, &wire.Publish{Topic: step.topic}) })
		v, err := wire.ParsePublish(firstFrame(w.out))
		if err != nil || v.TopicAlias != step.alias || (len(v.Topic) == 0) != step.short || !step.short && string(v.Topic) != step.topic {
			t.Fatalf("%s: alias %d, topic %q, %v", step.topic, v.TopicAlias, v.Topic, err)
		}
	}
}
