package persistence

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
)

// TestCompaction_Due checks when the oldest segment is emptied.
func TestCompaction_Due(t *testing.T) {
	kept := func(number uint64) *index.Segment {
		return &index.Segment{Number: number, Index: index.Index{Alive: 1}}
	}
	var c compaction
	for _, step := range []struct {
		name   string
		oldest *index.Segment
		size   int64
		live   int64
		newest uint64
		want   bool
	}{
		{"less than half has ended", kept(1), 200, 100, 9, false},
		{"the oldest is the active one", kept(9), 900, 100, 9, false},
		{"the oldest has ended", &index.Segment{Number: 1}, 900, 100, 9, false},
		{"more than half has ended", kept(1), 201, 100, 9, true},
		{"the first round goes on", kept(9), 201, 100, 12, true},
		{"after a round: the remaining messages are needed", kept(10), 300, 100, 15, false},
		{"less than twice of what was left", kept(10), 600, 100, 20, false},
		{"more than twice", kept(10), 601, 100, 20, true},
		{"it became less than what was left", kept(11), 250, 100, 21, false},
		{"more than twice of that", kept(11), 501, 100, 22, true},
	} {
		if got := c.due(step.oldest, step.size, step.live, step.newest); got != step.want {
			t.Errorf("%s: %v, %+v", step.name, got, c)
		}
	}
}

// TestCompaction_Squeeze checks that lack of room begins a round once for each newest segment.
func TestCompaction_Squeeze(t *testing.T) {
	c := compaction{round: 9, floor: 1000}
	oldest := &index.Segment{Number: 10, Index: index.Index{Alive: 1}}
	for _, step := range []struct {
		newest uint64
		want   bool
	}{{20, true}, {20, false}, {21, true}} {
		if got := c.squeeze(oldest, 900, 100, step.newest); got != step.want {
			t.Errorf("segment %d: %v, %+v", step.newest, got, c)
		}
	}
	if c.squeeze(oldest, 150, 100, 30) {
		t.Error("a round was begun though more than half of the log is live")
	}
}
