package reliability

import "fmt"

// Traits are the two questions that decide on a QoS.
type Traits struct {
	DuplicatesTolerable bool // handling the message twice does no harm
	LossTolerable       bool // never handling it does no harm
}

// Advice is a recommended QoS, why, and what it costs.
type Advice struct {
	QoS    byte
	Reason string
}

// Advise follows the flow chart: duplicates not tolerable, QoS 2; else loss
// tolerable, QoS 0; else QoS 1. The zero Traits tolerate nothing and get QoS 2.
//
// QoS 2 is between client and broker, per hop. From end to end a message is
// handled once only if the subscriber, too, subscribes with QoS 2 and remembers
// what it handled across restarts.
func Advise(t Traits) Advice {
	switch {
	case !t.DuplicatesTolerable:
		return Advice{2, "a duplicate would do harm"}
	case t.LossTolerable:
		return Advice{0, "neither a loss nor a duplicate does harm, so take the cheapest"}
	default:
		return Advice{1, "it must arrive, and a duplicate does no harm"}
	}
}

// Cost is what one message costs between one client and the broker.
type Cost struct {
	Packets    int // MQTT packets sent and received, without resends
	Handshakes int // round trips until the sender may forget the message
}

// Cost returns the cost of the advised QoS.
func (a Advice) Cost() Cost { return CostOf(a.QoS) }

// CostOf returns the cost of a QoS: PUBLISH alone for 0; and PUBACK for 1; and
// PUBREC, PUBREL, PUBCOMP for 2. Values above 2 cost what 2 does.
func CostOf(qos byte) Cost {
	switch qos {
	case 0:
		return Cost{Packets: 1}
	case 1:
		return Cost{Packets: 2, Handshakes: 1}
	default:
		return Cost{Packets: 4, Handshakes: 2}
	}
}

// Category is a kind of use with a known answer.
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
	SensorData:    {"sensor data", "temperature, humidity, light", Advice{0, "periodic: the next reading makes up for a lost one"}},
	Location:      {"location", "GPS, beacons", Advice{0, "being current matters more than being complete"}},
	LogsMetrics:   {"logs and metrics", "system logs, performance data", Advice{0, "large volume, of which a part may be lost"}},
	Alert:         {"alerts and notifications", "anomaly detected, warning", Advice{1, "it must arrive"}},
	Configuration: {"configuration changes", "new threshold, mode change", Advice{1, "it must arrive; setting a value twice is idempotent"}},
	Command:       {"control commands", "opening a valve, driving a motor", Advice{2, "carrying it out twice is dangerous"}},
	Financial:     {"financial data", "billing, sales", Advice{2, "the law asks for it, and nothing may be counted twice"}},
	Security:      {"security", "access grants, authentication", Advice{2, "security requires each exactly once"}},
}

// ForCategory returns the recommendation for c. A value that is no Category
// gets that for zero Traits, QoS 2.
func ForCategory(c Category) Advice {
	if !c.known() {
		return Advise(Traits{})
	}
	return categories[c].advice
}

// Examples names typical messages of the category.
func (c Category) Examples() string {
	if !c.known() {
		return ""
	}
	return categories[c].examples
}

// String returns the category's name.
func (c Category) String() string {
	if !c.known() {
		return fmt.Sprintf("category(%d)", uint8(c))
	}
	return categories[c].name
}

func (c Category) known() bool { return c >= SensorData && int(c) < len(categories) }
