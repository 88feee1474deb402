package interop

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/client"
)

// matrixRows are the rows of the matrix, in the order of the document.
var matrixRows = slices.Concat(qosRows, propertyRows, retainRows, aliasRows, shareRows, sizeRows)

type row struct {
	name string
	run  func(*cell)
}

var qosRows = []row{
	{"QoS 0", func(c *cell) { c.roundTrip(stored(packet{QoS: 0, Size: 20})...) }},
	{"QoS 1", func(c *cell) { c.roundTrip(stored(packet{QoS: 1, Size: 20})...) }},
	{"QoS 2", func(c *cell) { c.roundTrip(stored(packet{QoS: 2, Size: 20})...) }},
	{"published QoS above the subscribed QoS", lowered},
}

// propertyRows are tested at QoS 0, 1 and 2, live and retained.
var propertyRows = []row{
	{"Message Expiry Interval", carries(properties{Expiry: 3600})},
	{"Content Type", carries(properties{ContentType: "application/json; charset=utf-8"})},
	{"Response Topic", carries(properties{ResponseTopic: "answers/to/ü"})},
	{"Correlation Data", carries(properties{Correlation: []byte{0, 1, 0xFF, 0xFE, '|', 0}})},
	{"Correlation Data of 0 bytes", carries(properties{Correlation: []byte{}})},
	{"Payload Format Indicator", carries(properties{UTF8: true})},
	{"User Properties with repeated names", carries(properties{User: [][2]string{{"b", "2"}, {"b", "1"}, {"b", "2"}, {"b", ""}, {"ü", "ß"}}})},
	{"order of User Properties with different names", orderOfNames},
	{"all properties", carries(allProperties)},
	{"message ID of mooring (m-id)", carries(properties{User: [][2]string{{"own", "kept"}, {messageID, client.NewMessageID().String()}}})},
	{"Subscription Identifier", subscriptionIdentifier},
}

var allProperties = properties{UTF8: true, Expiry: 7200, ContentType: "text/plain", ResponseTopic: "answers", Correlation: []byte("c"),
	User: [][2]string{{"x", "1"}, {"x", "0"}}}

// stored returns p twice: once to be forwarded, and once to be retained as well.
func stored(p packet) []packet {
	p.Topic = "live"
	kept := p
	kept.Topic, kept.Retain = "kept", true
	return []packet{p, kept}
}

// each returns p at QoS 0, 1 and 2, live and retained.
func each(p packet) (all []packet) {
	for p.QoS = range byte(3) {
		for _, s := range stored(p) {
			s.Topic = fmt.Sprintf("%s/%d", s.Topic, p.QoS)
			all = append(all, s)
		}
	}
	return all
}

func carries(p properties) func(*cell) {
	return func(c *cell) { c.roundTrip(each(packet{Size: 20, properties: p})...) }
}

// roundTrip publishes messages on topics of the row to a connected subscriber and checks them. Then
// it subscribes again and checks the retained messages. A retained message of 0 bytes does not
// count.
func (c *cell) roundTrip(list ...packet) {
	c.Helper()
	filter := subscribing{filter: c.topic("#"), qos: 2}
	c.subscribe(filter)
	sent := map[string]packet{}
	kept := 0
	for i := range list {
		list[i].Topic = c.topic(list[i].Topic)
		sent[list[i].Topic] = list[i]
		if list[i].Retain && list[i].Size > 0 {
			kept++
		}
	}
	c.publish(list...)
	live := c.arrived(len(list))
	for _, got := range live {
		c.expect(got, sent[got.Topic], false)
	}
	all := live
	if kept > 0 {
		c.subscribe(filter)
		all = c.arrived(len(list) + kept)
		for _, got := range all[len(live):] {
			c.expect(got, sent[got.Topic], true)
		}
	}
	c.expects(all...)
}

// expect compares everything that an application sees, except the order of User Properties with
// different names.
func (c *cell) expect(got received, want packet, retain bool) {
	c.Helper()
	if got.QoS != want.QoS || got.Retain != retain || got.Dup {
		c.Errorf("%s: QoS %d, RETAIN %t, DUP %t; want QoS %d, RETAIN %t", got.Topic, got.QoS, got.Retain, got.Dup, want.QoS, retain)
	}
	if got.Size != want.Size || got.SHA256 != digest(payloadOf(want.Size, want.UTF8)) {
		c.Errorf("%s: %d bytes came, want %d, or they differ", got.Topic, got.Size, want.Size)
	}
	if got.Expiry > want.Expiry || got.Expiry+uint32(rowTimeout.Seconds()) < want.Expiry {
		c.Errorf("%s: Message Expiry Interval %d, want %d less the time on the way", got.Topic, got.Expiry, want.Expiry)
	}
	if got.UTF8 != want.UTF8 || got.ContentType != want.ContentType || got.ResponseTopic != want.ResponseTopic {
		c.Errorf("%s: got %+v, want %+v", got.Topic, got.properties, want.properties)
	}
	if string(got.Correlation) != string(want.Correlation) || (got.Correlation == nil) != (want.Correlation == nil) {
		c.Errorf("%s: Correlation Data %#v, want %#v", got.Topic, got.Correlation, want.Correlation)
	}
	gotID, gotUser := identity(got.User)
	wantID, wantUser := identity(want.User)
	switch {
	case wantID == "" && c.pub.name == mooring.name && want.QoS > 0: // the client creates one
		if client.ParseMessageID(gotID).String() != gotID {
			c.Errorf("%s: the identity is %q, want a UUID", got.Topic, gotID)
		}
	case gotID != wantID:
		c.Errorf("%s: the identity is %q, want %q", got.Topic, gotID, wantID)
	}
	if got, want := byName(gotUser), byName(wantUser); !slices.Equal(got, want) {
		c.Errorf("User Properties %q, want %q", got, want)
	}
}

// identity returns m-id and the other properties.
func identity(user [][2]string) (id string, rest [][2]string) {
	for _, p := range user {
		if p[0] == messageID {
			id = p[1]
		} else {
			rest = append(rest, p)
		}
	}
	return id, rest
}

// byName groups the properties by name and keeps the order within each name.
func byName(user [][2]string) [][2]string {
	user = slices.Clone(user)
	slices.SortStableFunc(user, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return user
}

// lowered checks that a message arrives at most at the QoS of the subscription [MQTT-3.8.4-8].
func lowered(c *cell) {
	var list []packet
	for granted := range byte(3) {
		level := fmt.Sprintf("%d/", granted)
		c.subscribe(subscribing{filter: c.topic(level + "#"), qos: granted})
		for qos := range byte(3) {
			list = append(list, packet{Topic: c.topic(level + fmt.Sprint(qos)), QoS: qos, Size: 10})
		}
	}
	c.publish(list...)
	all := c.arrived(len(list))
	for _, got := range all {
		var granted, qos byte
		if _, err := fmt.Sscanf(strings.TrimPrefix(got.Topic, c.topic("")), "%d/%d", &granted, &qos); err != nil {
			c.Error(err)
		} else if want := min(granted, qos); got.QoS != want {
			c.Errorf("QoS %d came as %d where %d was subscribed, want %d", qos, got.QoS, granted, want)
		}
	}
	c.expects(all...)
}

// orderOfNames checks that the server keeps the order of User Properties [MQTT-3.3.2-18], as far as
// the clients show it.
func orderOfNames(c *cell) {
	user := [][2]string{{"b", "2"}, {"a", "1"}, {"b", "3"}, {"9", ""}, {"a", "0"}}
	p := packet{Topic: c.topic("order"), QoS: 1, Size: 5, properties: properties{User: user}}
	c.subscribe(subscribing{filter: p.Topic, qos: 1})
	c.publish(p)
	all := c.arrived(1)
	c.expects(all...)
	c.expect(all[0], p, false)
	_, got := identity(all[0].User)
	js := c.pub.name == mqttjsName || c.sub.name == mqttjsName
	switch {
	case slices.Equal(got, user):
	case js:
		c.departs("MQTT.js keeps User Properties in an object by name. The order of different names is therefore lost (section 3.3.2.3.7), but the values of one name keep their order")
	default:
		c.Errorf("User Properties %q, want %q", got, user)
	}
}

func subscriptionIdentifier(c *cell) {
	const id = 134_217_727 // the largest one that mooring lets an application choose; it has four bytes
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2, id: id})
	list := each(packet{Size: 3})
	for i := range list {
		list[i].Topic = c.topic(list[i].Topic)
	}
	c.publish(list...)
	live := c.arrived(len(list))
	c.subscribe(subscribing{filter: c.topic("#"), qos: 2, id: 127})
	all := c.arrived(len(list) + len(list)/2)
	for i, got := range all {
		want := uint32(id)
		if i >= len(live) {
			want = 127
		}
		if !slices.Equal(got.SubscriptionIDs, []uint32{want}) {
			c.Errorf("%s: Subscription Identifiers %d, want %d", got.Topic, got.SubscriptionIDs, want)
		}
	}
	c.expects(all...)
}
