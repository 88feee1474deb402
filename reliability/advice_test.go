package reliability_test

import (
	"testing"

	"github.com/mooring-mqtt/mooring/reliability"
)

func TestAdvise(t *testing.T) {
	for _, c := range []struct {
		traits reliability.Traits
		qos    byte
		cost   reliability.Cost
	}{
		{reliability.Traits{}, 2, reliability.Cost{4, 2}},
		{reliability.Traits{LossTolerable: true}, 2, reliability.Cost{4, 2}},
		{reliability.Traits{DuplicatesTolerable: true}, 1, reliability.Cost{2, 1}},
		{reliability.Traits{DuplicatesTolerable: true, LossTolerable: true}, 0, reliability.Cost{1, 0}},
	} {
		a := reliability.Advise(c.traits)
		if a.QoS != c.qos || a.Cost() != c.cost || a.Reason == "" {
			t.Errorf("%+v: %+v costs %+v, want QoS %d and %+v", c.traits, a, a.Cost(), c.qos, c.cost)
		}
	}
}

func TestForCategory(t *testing.T) {
	want := map[reliability.Category]byte{
		reliability.SensorData: 0, reliability.Location: 0, reliability.LogsMetrics: 0, reliability.Alert: 1, reliability.Configuration: 1,
		reliability.Command: 2, reliability.Financial: 2, reliability.Security: 2,
	}
	for c, qos := range want {
		a := reliability.ForCategory(c)
		if a.QoS != qos || a.Reason == "" || c.Examples() == "" {
			t.Errorf("%v: %+v (%s), want QoS %d", c, a, c.Examples(), qos)
		}
	}
	if next := reliability.Category(len(want) + 1); next.Examples() != "" {
		t.Errorf("%v is not tested", next)
	}
	for _, c := range []reliability.Category{0, 200} {
		if a := reliability.ForCategory(c); a.QoS != 2 || c.Examples() != "" || c.String() == "" {
			t.Errorf("%v: %+v, want the safe QoS 2", c, a)
		}
	}
}
