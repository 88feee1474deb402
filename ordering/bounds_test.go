package ordering_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/ordering"
)

func TestPosition_AtTheHighestNumber(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.Restore("k", ordering.Position{Epoch: 1, Last: math.MaxUint64 - 1})
	p.pushes(t, []uint64{math.MaxUint64, math.MaxUint64, 0}, ordering.Delivered, ordering.Duplicate, ordering.NumberReused)
	if at, ok := p.Position("k"); !ok || at.Last != math.MaxUint64 {
		t.Errorf("%+v, %v", at, ok)
	}
}

func TestStats_Waiting(t *testing.T) {
	p := newProbe(ordering.Options{Start: ordering.FromOne})
	for _, seq := range []uint64{3, 2, 1} {
		p.Push("k", 1, seq, ordering.ID{}, "", func(string, bool) { p.say(fmt.Sprint(p.Stats().Waiting)) })
	}
	p.wants(t, "2 1 0")
}

func TestStats_Epochs(t *testing.T) {
	p := newProbe(ordering.Options{})
	for epoch := range uint64(3) {
		p.in("k", epoch+1, 1)
	}
	if s := p.Stats(); s.Epochs != 2 {
		t.Errorf("%+v", s)
	}
}

func TestEnvelope_LongestID(t *testing.T) {
	for n, fits := range map[int]bool{ordering.MaxIDBytes: true, ordering.MaxIDBytes + 1: false} {
		id := strings.Repeat("x", n)
		data, err := ordering.EncodeEnvelope(ordering.Envelope{ID: id, Payload: []byte("1")})
		if (err == nil) != fits {
			t.Errorf("encoding %d bytes: %v", n, err)
		}
		if !fits {
			data = []byte(`{"id":"` + id + `","sequence":1,"payload":1}`)
		}
		if e, err := ordering.DecodeEnvelope(data); (err == nil && e.ID == id) != fits {
			t.Errorf("decoding %d bytes: %v", n, err)
		}
	}
}
