package reliability

import "fmt"

// Traits are the properties of a message that decide on its QoS.
type Traits struct {
	DuplicatesTolerable bool // handling the message twice does no harm
	LossTolerable       bool // losing the message does no harm
}

// Advice is a recommended QoS and its reason.
type Advice struct {
	QoS    byte
	Reason string
}

// Advise returns QoS 2 if duplicates are not tolerable, otherwise QoS 0 if loss is tolerable,
// otherwise QoS 1. QoS 2 holds for each hop between client and server. A message is handled exactly
// once from end to end only if the subscriber uses QoS 2 too, and deduplicates across restarts.
func Advise(t Traits) Advice {
	switch {
	case !t.DuplicatesTolerable:
		return Advice{2, "a duplicate would do harm"}
	case t.LossTolerable:
		return Advice{0, "neither loss nor a duplicate does harm; QoS 0 costs least"}
	default:
		return Advice{1, "it must arrive, and a duplicate does no harm"}
	}
}

// Cost is what one message costs between a client and the server.
type Cost struct {
	Packets    int // MQTT packets sent and received, without resends
	Handshakes int // round trips until the sender can discard the message
}

// Cost returns the cost of the advised QoS.
func (a Advice) Cost() Cost { return CostOf(a.QoS) }

// CostOf returns the cost of a QoS: PUBLISH for 0; PUBLISH and PUBACK for 1; PUBLISH,
// PUBREC, PUBREL and PUBCOMP for 2. Values above 2 are treated as 2.
func CostOf(qos byte) Cost {
	return [...]Cost{{Packets: 1}, {Packets: 2, Handshakes: 1}, {Packets: 4, Handshakes: 2}}[min(qos, 2)]
}

// Category is a common kind of message.
type Category uint8

const (
	SensorData    Category = iota + 1 // temperature, humidity, light
	Location                          // GPS, beacons
	LogsMetrics                       // system logs, performance data
	Alert                             // anomalies, warnings
	Configuration                     // new thresholds, mode changes
	Command                           // opening a valve, driving a motor
	Financial                         // billing, sales
	Security                          // access grants, authentication
)

type categoryEntry struct {
	name, examples string
	advice         Advice
}

var categories = [...]categoryEntry{
	SensorData:    {"sensor data", "temperature, humidity, light", Advice{0, "periodic: the next reading replaces a lost one"}},
	Location:      {"location", "GPS, beacons", Advice{0, "current data matters more than complete data"}},
	LogsMetrics:   {"logs and metrics", "system logs, performance data", Advice{0, "large volume; partial loss is acceptable"}},
	Alert:         {"alerts and notifications", "anomaly detected, warning", Advice{1, "it must arrive"}},
	Configuration: {"configuration changes", "new threshold, mode change", Advice{1, "it must arrive; setting a value twice is idempotent"}},
	Command:       {"control commands", "opening a valve, driving a motor", Advice{2, "executing it twice is dangerous"}},
	Financial:     {"financial data", "billing, sales", Advice{2, "required by law, and nothing may be counted twice"}},
	Security:      {"security", "access grants, authentication", Advice{2, "each event must be processed exactly once"}},
}

// ForCategory returns the recommendation for c; QoS 2 if c is none of the constants.
func ForCategory(c Category) Advice { return c.entry().advice }

// Examples returns typical messages of the category.
func (c Category) Examples() string { return c.entry().examples }

// String returns the name of the category.
func (c Category) String() string { return c.entry().name }

func (c Category) entry() categoryEntry {
	if c == 0 || int(c) >= len(categories) {
		return categoryEntry{fmt.Sprintf("category(%d)", uint8(c)), "", Advise(Traits{})}
	}
	return categories[c]
}
