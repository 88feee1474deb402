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
			return bad("Servers", "has a user name in it; set Connection.Username and Connection.Password instead")
		}
	}
	if c.Session.AssignedClientID {
		switch {
		case c.ClientID != "":
			return bad("Session.AssignedClientID", "is set together with ClientID; set one of both")
		case c.Dir != "" || c.Store.Custom != nil:
			return bad("Session.AssignedClientID", "is set together with a store that outlives the process, which would not find its session again; set a ClientID")
		case c.Publishing.Sequenced && c.Publishing.Publisher == "":
			return bad("Publishing.Publisher", "is empty, and with AssignedClientID there is no ClientID to number messages under; set a name")
		}
	}
	if c.ClientID == "" && (c.Dir != "" || c.Store.Custom != nil) {
		return bad("ClientID", "is empty, but the store outlives the process and must find its session again; set a name that stays the same")
	}
	for _, s := range []struct{ field, value string }{{"ClientID", c.ClientID}, {"Connection.Username", c.Connection.Username}, {"Publishing.Publisher", c.Publishing.Publisher}} {
		if err := wire.CheckString(s.field, s.value); err != nil {
			return bad(s.field, "%s", err.(*wire.FieldError).Problem)
		}
	}
	if c.Presence.MarkerTopic != "" && c.Presence.MarkerTopic != NoMarker {
		if err := wire.CheckTopicName("Presence.MarkerTopic", c.Presence.MarkerTopic); err != nil {
			return bad("Presence.MarkerTopic", "%s", err.(*wire.FieldError).Problem)
		}
	}
	if c.Connection.Auth != nil {
		switch err := wire.CheckString("Connection.Auth", c.Connection.Auth.Method()); {
		case err != nil:
			return bad("Connection.Auth", "has a Method that %s", err.(*wire.FieldError).Problem)
		case c.Connection.Auth.Method() == "":
			return bad("Connection.Auth", "has no Method; name one that the server knows")
		}
	}
	if len(c.Connection.Password) > wire.MaxString {
		return bad("Connection.Password", "is longer than 65,535 bytes; MQTT cannot carry it")
	}
	if c.Dir != "" && c.Store.Custom != nil {
		return bad("Store.Custom", "is set together with Dir; set one of both")
	}
	for _, d := range []struct {
		field string
		value time.Duration
		max   time.Duration
	}{
		{"Connection.KeepAlive", c.Connection.KeepAlive, 65_535 * time.Second},
		{"Connection.StableAfter", c.Connection.StableAfter, 0}, {"Connection.ConnectTimeout", c.Connection.ConnectTimeout, 0}, {"Connection.WriteTimeout", c.Connection.WriteTimeout, 0},
		{"Connection.AckTimeout", c.Connection.AckTimeout, 0}, {"Publishing.WaitTimeout", c.Publishing.WaitTimeout, 0}, {"Connection.CloseTimeout", c.Connection.CloseTimeout, 0},
	} {
		if d.value < 0 || d.max > 0 && d.value > d.max {
			return bad(d.field, "is %v; use 0 for the default or a positive duration%s", d.value, upTo(d.max))
		}
	}
	if err := c.Store.Options.Validate(); err != nil {
		return bad("Store.Options", "%v", err)
	}
	switch {
	case c.Store.WhenFull > DropNewest:
		return bad("Store.WhenFull", "is %d; use Reject, Block, DropOldest or DropNewest", c.Store.WhenFull)
	case c.Store.WhenFull == DropOldest && c.Store.Custom != nil:
		return bad("Store.WhenFull", "is DropOldest, which Store.Custom has to do; set it in the options of that store")
	case c.Store.WhenFull != Reject && c.Store.Options.Limits.WhenFull != persistence.Reject && storePolicies[c.Store.WhenFull] != c.Store.Options.Limits.WhenFull:
		return bad("Store.WhenFull", "is not the same as Store.Options.Limits.WhenFull; set one of both")
	case c.Store.DeadLetters < 0 || c.Store.DeadLetters > 100_000:
		return bad("Store.DeadLetters", "is %d; use 0 for none or a number up to 100,000", c.Store.DeadLetters)
	}
	if longest := wire.MaxString - len(streamSuffixes[Urgent]); c.Publishing.Sequenced && (len(c.Publishing.Publisher) > longest || len(c.ClientID) > longest) {
		return bad("Publishing.Publisher", "or ClientID is longer than %d bytes; shorten it, a priority may be put behind it", longest)
	}
	if c.Session.Expiry < 0 && c.Session.Expiry != NoSession {
		return bad("Session.Expiry", "is %v; use 0 for the default, a positive duration, or NoSession", c.Session.Expiry)
	}
	switch {
	case c.Session.Mode > StrictSession:
		return bad("Session.Mode", "is %d; use ResumeSession or StrictSession", c.Session.Mode)
	case c.Session.Mode == StrictSession && c.Session.Expiry == NoSession:
		return bad("Session.Mode", "is StrictSession, but with NoSession no session is kept; set a Session.Expiry")
	}
	if c.Session.OnTakeover > TakeoverStop {
		return bad("Session.OnTakeover", "is %d; use TakeoverBackOff or TakeoverStop", c.Session.OnTakeover)
	}
	if c.Connection.MaximumPacketSize > 0 && c.Connection.MaximumPacketSize < 64 {
		return bad("Connection.MaximumPacketSize", "is %d bytes; no message fits, use 64 or more", c.Connection.MaximumPacketSize)
	}
	for _, n := range []struct {
		field string
		value int
	}{{"Receiving.Concurrency", c.Receiving.Concurrency}, {"Receiving.QoS0QueueSize", c.Receiving.QoS0QueueSize}, {"Receiving.MaxBufferedBytes", c.Receiving.MaxBufferedBytes}, {"Receiving.HandlerAttempts", c.Receiving.HandlerAttempts}, {"Publishing.PoisonAttempts", c.Publishing.PoisonAttempts}} {
		if n.value < 0 {
			return bad(n.field, "is %d; use 0 for the default or a positive number", n.value)
		}
	}
	if c.Publishing.TopicAliases < 0 || c.Publishing.TopicAliases > 65_535 {
		return bad("Publishing.TopicAliases", "is %d; use 0 for none or a number up to 65,535", c.Publishing.TopicAliases)
	}
	if c.Receiving.OrderingKey != nil && c.Receiving.Ordering != nil {
		return bad("Receiving.OrderingKey", "is set together with Ordering, which needs all messages of a topic in one queue; set one of both")
	}
	if c.Session.OnLost > FailInFlight {
		return bad("Session.OnLost", "is %d; use Republish or FailInFlight", c.Session.OnLost)
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
	if c.Presence.Status != nil {
		if c.Presence.Will != nil {
			return bad("Presence.Will", "is set together with Status, which uses the will; set one of both")
		}
		return c.Presence.Status.validate(bad)
	}
	if c.Presence.Will == nil {
		return nil
	}
	w := c.Presence.Will
	if w.Delay < 0 || w.Expiry < 0 {
		return bad("Presence.Will.Delay", "or Will.Expiry is negative; use 0 or a positive duration")
	}
	if len(w.Payload) > wire.MaxString {
		return bad("Presence.Will.Payload", "is longer than 65,535 bytes; MQTT cannot carry it in a will")
	}
	p := w.packet()
	if err := p.Check(); err != nil {
		return bad("Presence.Will", "%v", err)
	}
	return nil
}

func upTo(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(" up to %v", d)
}
