package persistence_test

import (
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

func TestLimits_Admit(t *testing.T) {
	o := persistence.Options{Limits: persistence.Limits{MaxMessages: 3, MaxBytes: 100, MaxPacketBytes: 60}}
	packet := func(size int) *persistence.Message { return &persistence.Message{Packet: make([]byte, size)} }
	for _, c := range []struct {
		m       *persistence.Message
		pending int
		bytes   int64
		want    error
	}{
		{packet(60), 2, 40, nil},
		{packet(60), 2, 41, persistence.ErrFull},
		{packet(1), 3, 3, persistence.ErrFull},
		{packet(61), 0, 0, persistence.ErrPacketTooLarge},
		{&persistence.Message{Priority: persistence.Priorities}, 0, 0, persistence.ErrPriority},
		{&persistence.Message{Key: string(make([]byte, 1025))}, 0, 0, persistence.ErrKey},
		{&persistence.Message{OnSessionLost: persistence.FailInFlight + 1}, 0, 0, persistence.ErrSessionLostPolicy},
	} {
		if err := o.Limits.Admit(c.m, c.pending, c.bytes); !errors.Is(err, c.want) {
			t.Errorf("%d bytes beside %d messages of %d bytes: %v, want %v", len(c.m.Packet), c.pending, c.bytes, err, c.want)
		}
	}
	if err := (persistence.Limits{}).Admit(packet(1<<20), 999_999, 0); err != nil {
		t.Errorf("defaults: %v", err)
	}
}
