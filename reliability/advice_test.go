package reliability

import "testing"

func TestAdvise(t *testing.T) {
	for _, c := range []struct {
		traits Traits
		qos    byte
		cost   Cost
	}{
		{Traits{}, 2, Cost{4, 2}},
		{Traits{LossTolerable: true}, 2, Cost{4, 2}},
		{Traits{DuplicatesTolerable: true}, 1, Cost{2, 1}},
		{Traits{DuplicatesTolerable: true, LossTolerable: true}, 0, Cost{1, 0}},
	} {
		a := Advise(c.traits)
		if a.QoS != c.qos || a.Cost() != c.cost || a.Reason == "" {
			t.Errorf("%+v: %+v costs %+v, want QoS %d and %+v", c.traits, a, a.Cost(), c.qos, c.cost)
		}
	}
}

func TestForCategory(t *testing.T) {
	want := map[Category]byte{
		SensorData: 0, Location: 0, LogsMetrics: 0, Alert: 1, Configuration: 1,
		Command: 2, Financial: 2, Security: 2,
	}
	for c, qos := range want {
		a := ForCategory(c)
		if a.QoS != qos || a.Reason == "" || c.Examples() == "" {
			t.Errorf("%v: %+v (%s), want QoS %d", c, a, c.Examples(), qos)
		}
	}
	if len(want) != len(categories)-1 {
		t.Errorf("%d categories tested of %d", len(want), len(categories)-1)
	}
	for _, c := range []Category{0, 200} {
		if a := ForCategory(c); a.QoS != 2 || c.Examples() != "" || c.String() == "" {
			t.Errorf("%v: %+v, want the safe QoS 2", c, a)
		}
	}
}
