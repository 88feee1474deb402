package client

import (
	"fmt"
	"net/url"
	"time"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Validate returns a *ConfigError for the first field that is impossible, or
// nil. New calls it.
func (c Config) Validate() error {
	bad := func(field, format string, args ...any) error {
		return &ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	if len(c.Servers) == 0 {
		return bad("Servers", `is empty; name at least one, such as "mqtt://localhost:1883"`)
	}
	for _, s := range c.Servers {
		if _, err := link.ParseServer(s); err != nil {
			return bad("Servers", "%v", err)
		}
		if u, err := url.Parse(s); err == nil && u.User != nil {
			return bad("Servers", "has a user name in it; set Username and Password instead")
		}
	}
	if c.AssignedClientID {
		switch {
		case c.ClientID != "":
			return bad("AssignedClientID", "is set together with ClientID; set one of both")
		case c.Dir != "" || c.Store != nil:
			return bad("AssignedClientID", "is set together with a store that outlives the process, which would not find its session again; set a ClientID")
		case c.Sequenced && c.Publisher == "":
			return bad("Publisher", "is empty, and with AssignedClientID there is no ClientID to number messages under; set a name")
		}
	}
	if c.ClientID == "" && (c.Dir != "" || c.Store != nil) {
		return bad("ClientID", "is empty, but the store outlives the process and must find its session again; set a name that stays the same")
	}
	for _, s := range []struct{ field, value string }{{"ClientID", c.ClientID}, {"Username", c.Username}, {"Publisher", c.Publisher}} {
		if err := wire.CheckString(s.field, s.value); err != nil {
			return bad(s.field, "%s", err.(*FieldError).Problem)
		}
	}
	if c.MarkerTopic != "" && c.MarkerTopic != NoMarker {
		if err := wire.CheckTopicName("MarkerTopic", c.MarkerTopic); err != nil {
			return bad("MarkerTopic", "%s", err.(*FieldError).Problem)
		}
	}
	if c.Auth != nil {
		switch err := wire.CheckString("Auth", c.Auth.Method()); {
		case err != nil:
			return bad("Auth", "has a Method that %s", err.(*FieldError).Problem)
		case c.Auth.Method() == "":
			return bad("Auth", "has no Method; name one that the server knows")
		}
	}
	if len(c.Password) > wire.MaxString {
		return bad("Password", "is longer than 65,535 bytes; MQTT cannot carry it")
	}
	if c.Dir != "" && c.Store != nil {
		return bad("Store", "is set together with Dir; set one of both")
	}
	for _, d := range []struct {
		field string
		value time.Duration
		max   time.Duration
	}{
		{"KeepAlive", c.KeepAlive, 65_535 * time.Second},
		{"StableAfter", c.StableAfter, 0}, {"ConnectTimeout", c.ConnectTimeout, 0}, {"WriteTimeout", c.WriteTimeout, 0},
		{"AckTimeout", c.AckTimeout, 0}, {"PublishTimeout", c.PublishTimeout, 0}, {"CloseTimeout", c.CloseTimeout, 0},
	} {
		if d.value < 0 || d.max > 0 && d.value > d.max {
			return bad(d.field, "is %v; use 0 for the default or a positive duration%s", d.value, upTo(d.max))
		}
	}
	if err := c.DirOptions.Validate(); err != nil {
		return bad("DirOptions", "%v", err)
	}
	switch {
	case c.WhenFull > DropNewest:
		return bad("WhenFull", "is %d; use Reject, Block, DropOldest or DropNewest", c.WhenFull)
	case c.WhenFull == DropOldest && c.Store != nil:
		return bad("WhenFull", "is DropOldest, which Store has to do; set it in the options of the store, and their OnDrop to Client.Dropped")
	case c.WhenFull != Reject && c.DirOptions.WhenFull != persistence.Reject && storePolicies[c.WhenFull] != c.DirOptions.WhenFull:
		return bad("WhenFull", "is not the same as DirOptions.WhenFull; set one of both")
	case c.DeadLetters < 0 || c.DeadLetters > 100_000:
		return bad("DeadLetters", "is %d; use 0 for none or a number up to 100,000", c.DeadLetters)
	}
	if longest := wire.MaxString - len(streamSuffixes[Urgent]); c.Sequenced && (len(c.Publisher) > longest || len(c.ClientID) > longest) {
		return bad("Publisher", "or ClientID is longer than %d bytes; shorten it, a priority may be put behind it", longest)
	}
	if c.SessionExpiry < 0 && c.SessionExpiry != NoSession {
		return bad("SessionExpiry", "is %v; use 0 for the default, a positive duration, or NoSession", c.SessionExpiry)
	}
	switch {
	case c.Session > StrictSession:
		return bad("Session", "is %d; use ResumeSession or StrictSession", c.Session)
	case c.Session == StrictSession && c.SessionExpiry == NoSession:
		return bad("Session", "is StrictSession, but with NoSession no session is kept; set a SessionExpiry")
	}
	if c.OnTakeover > TakeoverStop {
		return bad("OnTakeover", "is %d; use TakeoverBackOff or TakeoverStop", c.OnTakeover)
	}
	if c.MaximumPacketSize > 0 && c.MaximumPacketSize < 64 {
		return bad("MaximumPacketSize", "is %d bytes; no message fits, use 64 or more", c.MaximumPacketSize)
	}
	for _, n := range []struct {
		field string
		value int
	}{{"Lanes", c.Lanes}, {"QoS0Queue", c.QoS0Queue}, {"MaxInboundBytes", c.MaxInboundBytes}, {"HandlerAttempts", c.HandlerAttempts}, {"PoisonAttempts", c.PoisonAttempts}} {
		if n.value < 0 {
			return bad(n.field, "is %d; use 0 for the default or a positive number", n.value)
		}
	}
	if c.TopicAliases < 0 || c.TopicAliases > 65_535 {
		return bad("TopicAliases", "is %d; use 0 for none or a number up to 65,535", c.TopicAliases)
	}
	if c.LaneKey != nil && c.Ordering != nil {
		return bad("LaneKey", "is set together with Ordering, which needs all messages of a topic in one lane; set one of both")
	}
	if c.OnSessionLost > FailInFlight {
		return bad("OnSessionLost", "is %d; use Republish or FailInFlight", c.OnSessionLost)
	}
	if err := c.validatePolicies(bad); err != nil {
		return err
	}
	if err := c.validateTransport(bad); err != nil {
		return err
	}
	return c.validateWill(bad)
}

func (c Config) validateWill(bad func(field, format string, args ...any) error) error {
	if c.Status != nil {
		if c.Will != nil {
			return bad("Will", "is set together with Status, which uses the will; set one of both")
		}
		return c.Status.validate(bad)
	}
	if c.Will == nil {
		return nil
	}
	w := c.Will
	if w.Delay < 0 || w.Expiry < 0 {
		return bad("Will.Delay", "or Will.Expiry is negative; use 0 or a positive duration")
	}
	if len(w.Payload) > wire.MaxString {
		return bad("Will.Payload", "is longer than 65,535 bytes; MQTT cannot carry it in a will")
	}
	p := w.packet()
	if err := p.Check(); err != nil {
		return bad("Will", "%v", err)
	}
	return nil
}

// packet is the will as the message that the server will publish.
func (w *Will) packet() wire.Publish {
	m := Message{Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Expiry: w.Expiry,
		ContentType: w.ContentType, ResponseTopic: w.ResponseTopic, CorrelationData: w.CorrelationData,
		PayloadIsUTF8: w.PayloadIsUTF8, UserProperties: w.UserProperties}
	return m.packet(nil)
}

func upTo(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(" up to %v", d)
}
