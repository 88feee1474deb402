package reliability

import "fmt"

// Traits are the properties of a message that determine its QoS.
type Traits struct {
	DuplicatesTolerable bool // handling the message twice does no harm
	LossTolerable       bool // losing the message does no harm
}

// Advice is a recommended QoS and its reason.
type Advice struct {
	QoS    byte
	Reason string
}

// Advise recommends a QoS for a message with these traits. It recommends QoS 2 if duplicates are
// not tolerable. If duplicates are tolerable, it recommends QoS 0 if loss is tolerable, and QoS 1
// if it is not. QoS 2 covers only the hop between one client and the server. For exactly-once
// handling from end to end, the subscriber must also use QoS 2. The subscriber must also detect
// duplicates across restarts.
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

// Cost is the cost of one message between a client and the server.
type Cost struct {
	Packets    int // MQTT packets sent and received, without resends
	Handshakes int // round trips until the sender can discard the message
}

// Cost returns the cost of the advised QoS.
func (a Advice) Cost() Cost { return CostOf(a.QoS) }

// CostOf returns the cost of a QoS. QoS 0 uses one packet, PUBLISH. QoS 1 uses PUBLISH and PUBACK.
// QoS 2 uses PUBLISH, PUBREC, PUBREL and PUBCOMP. CostOf treats values above 2 as 2.
func CostOf(qos byte) Cost {
	return [...]Cost{{Packets: 1}, {Packets: 2, Handshakes: 1}, {Packets: 4, Handshakes: 2}}[min(qos, 2)]
}

// Category is a common kind of message.
type Category uint8

const (
	SensorData    Category = iota + 1 // for example temperature, humidity, light
	Location                          // for example GPS positions, beacons
	LogsMetrics                       // for example system logs, performance data
	Alert                             // for example anomalies, warnings
	Configuration                     // for example new thresholds, mode changes
	Command                           // for example opening a valve, driving a motor
	Financial                         // for example billing, sales
	Security                          // for example access grants, authentication
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

// ForCategory returns the recommendation for a category. It returns QoS 2 if c is not one of the
// constants.
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
