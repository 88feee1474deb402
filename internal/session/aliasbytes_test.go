package session

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The server chooses the Topic Names of its aliases. Their total length is at most maxAliasBytes.
func TestTopics_AliasBytes(t *testing.T) {
	before := heap()
	topics := topics{aliases: map[uint16]string{}, interned: map[string]string{}}
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = topics.resolve(wire.PublishView{Topic: fmt.Appendf(nil, "%060000d", n), TopicAlias: uint16(n + 1)}, 65_535)
	}
	if n-1 != maxAliasBytes/60_000 {
		t.Errorf("%d aliases were accepted, want %d", n-1, maxAliasBytes/60_000)
	}
	if used := heap() - before; used > maxAliasBytes*5/4+maxTopicBytes {
		t.Errorf("%d bytes of heap", used)
	}
	if refused := (*wire.Error)(nil); !errors.As(err, &refused) || refused.Code != wire.ReasonQuotaExceeded {
		t.Errorf("%v", err)
	}
	runtime.KeepAlive(topics)

	// An alias that gets another topic frees the previous one.
	topics.aliases, topics.aliased = map[uint16]string{}, 0
	for n := range 1000 {
		if _, err := topics.resolve(wire.PublishView{Topic: fmt.Appendf(nil, "%060000d", n), TopicAlias: 1}, 65_535); err != nil {
			t.Fatal(err)
		}
	}
}

// The same limit applies to this client's aliases: the least recently used topics lose theirs.
func TestAliases_Bytes(t *testing.T) {
	before := heap()
	a := newAliases(65_535, Limits{TopicAliasMaximum: 65_535})
	used := map[uint16]string{} // the server's knowledge
	for n := range 1000 {
		topic := fmt.Sprintf("%0*d", 100*(1+n%600), n)
		number := a.take(topic)
		if number == 0 || int(number) > 1000 {
			t.Fatalf("alias %d", number)
		}
		used[number] = topic
		if n%3 == 0 { // an old topic is used again
			if e, ok := a.byTopic[used[1]]; ok {
				a.recent.MoveToFront(e)
			}
		}
	}
	used2 := 0
	for topic, e := range a.byTopic {
		if used[e.Value.(*alias).number] != topic {
			t.Fatalf("alias %d is that of another topic", e.Value.(*alias).number)
		}
		used2 += len(topic)
	}
	if used2 != a.bytes || a.bytes > maxAliasBytes || a.recent.Len() != len(a.byTopic) || a.recent.Len()+len(a.free) > 1000 {
		t.Errorf("%d bytes in %d aliases, counted %d", used2, len(a.byTopic), a.bytes)
	}
	used = nil
	if got := heap() - before; got > maxAliasBytes*5/4 {
		t.Errorf("%d bytes of heap", got)
	}
	runtime.KeepAlive(a)
}
