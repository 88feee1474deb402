package client

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Validate returns a *ConfigError for the first invalid field, or nil. New calls it.
func (c Config) Validate() error {
	var v validator
	v.servers(&c)
	v.identity(&c)
	v.amounts(&c)
	v.choices(&c)
	v.refusals(&c)
	v.transport(&c)
	if s := c.Presence.Status; s != nil {
		v.bad(c.Presence.Will != nil, "Presence.Will", "is set together with Status, which uses the will; set only one of them")
		v.status(s)
	} else if w := c.Presence.Will; w != nil {
		v.will(w)
	}
	return v.err
}

// validator records the first problem of a Config.
type validator struct{ err error }

// bad records a problem of a field if is is true.
func (v *validator) bad(is bool, field, format string, args ...any) {
	if is && v.err == nil {
		v.err = &ConfigError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
}

// text records an error of package wire about a field.
func (v *validator) text(field string, err error) {
	if invalid := (*wire.FieldError)(nil); errors.As(err, &invalid) {
		v.bad(true, field, "%s", invalid.Problem)
	}
}

func (v *validator) servers(c *Config) {
	v.bad(len(c.Servers) == 0, "Servers", `is empty; name at least one, such as "mqtt://localhost:1883"`)
	for i, s := range c.Servers {
		_, err := link.ParseServer(s)
		v.bad(err != nil && len(c.Servers) > 1, "Servers", "entry %d: %v", i+1, err)
		v.bad(err != nil, "Servers", "%v", err)
	}
}

// identity validates the names of the client, the session and the store.
func (v *validator) identity(c *Config) {
	durable := c.Dir != "" || c.Store.Custom != nil
	if c.Session.AssignedClientID {
		const field = "Session.AssignedClientID"
		v.bad(c.ClientID != "", field, "is set together with ClientID; set only one of them")
		v.bad(durable, field,
			"is set together with a store that outlives the process, which needs a fixed ClientID; set ClientID instead")
		v.bad(c.Publishing.Sequenced && c.Publishing.Publisher == "", "Publishing.Publisher",
			"is empty, but with AssignedClientID no ClientID is known for numbering messages; set a name")
	}
	v.bad(c.ClientID == "" && durable, "ClientID",
		"is empty, but the store outlives the process and must find its session again; set a fixed one")
	v.bad(c.Dir != "" && c.Store.Custom != nil, "Store.Custom", "is set together with Dir; set only one of them")
	v.text("ClientID", wire.CheckString("ClientID", c.ClientID))
	v.text("Connection.Username", wire.CheckString("Username", c.Connection.Username))
	v.bad(len(c.Connection.Password) > wire.MaxString, "Connection.Password",
		"is longer than 65,535 bytes; MQTT cannot carry it")
	v.text("Publishing.Publisher", wire.CheckString("Publisher", c.Publishing.Publisher))
	v.publisher(c)
	longest := wire.MaxString - len(streamSuffixes[Urgent])
	v.bad(c.Publishing.Sequenced && max(len(c.Publishing.Publisher), len(c.ClientID)) > longest, "Publishing.Publisher",
		"or ClientID is longer than %d bytes, which leaves no space for a priority suffix; shorten it", longest)
	if topic := c.Presence.MarkerTopic; topic != "" && topic != NoMarker {
		v.text("Presence.MarkerTopic", wire.CheckTopicName("MarkerTopic", topic))
	}
	for _, p := range c.Connection.UserProperties {
		const field = "Connection.UserProperties"
		v.text(field, wire.CheckString("UserProperties", p.Key))
		v.text(field, wire.CheckString("UserProperties", p.Value))
	}
	if auth := c.Connection.Auth; auth != nil {
		err := wire.CheckString("Method", auth.Method())
		v.bad(err != nil, "Connection.Auth", "has an invalid Method: %v", err)
		v.bad(auth.Method() == "", "Connection.Auth", "has no Method; return one that the server supports")
	}
}

// publisher validates Publishing.Publisher, the name that numbered messages carry. It must not
// equal the name under which another publisher numbers its High or Urgent messages.
func (v *validator) publisher(c *Config) {
	p := &c.Publishing
	for _, suffix := range streamSuffixes[High:] {
		const problem = "ends with %s, the suffix of messages of that priority; choose another name"
		v.bad(strings.HasSuffix(p.Publisher, suffix), "Publishing.Publisher", problem, suffix)
		v.bad(p.Sequenced && p.Publisher == "" && strings.HasSuffix(c.ClientID, suffix), "Publishing.Publisher",
			"is empty, and ClientID "+problem+" for Publisher", suffix)
	}
}

// amounts validates numbers and durations. Other packages would treat a negative one as their
// default.
func (v *validator) amounts(c *Config) {
	conn, in, out := &c.Connection, &c.Receiving, &c.Publishing
	for _, a := range []struct {
		field string
		value time.Duration
	}{
		{"Connection.StableAfter", conn.StableAfter},
		{"Connection.ConnectTimeout", conn.ConnectTimeout}, {"Connection.WriteTimeout", conn.WriteTimeout},
		{"Connection.AckTimeout", conn.AckTimeout}, {"Connection.CloseTimeout", conn.CloseTimeout},
		{"Publishing.WaitTimeout", out.WaitTimeout},
		{"Publishing.Breaker.RecoveryTimeout", out.Breaker.RecoveryTimeout}, {"Publishing.Breaker.SlowAck", out.Breaker.SlowAck},
	} {
		v.bad(a.value < 0, a.field, "is %v; use 0 for the default or a positive duration", a.value)
	}
	for _, a := range []struct {
		field string
		value int
	}{
		{"Receiving.Concurrency", in.Concurrency}, {"Receiving.QoS0QueueSize", in.QoS0QueueSize},
		{"Receiving.MaxBufferedBytes", in.MaxBufferedBytes}, {"Receiving.HandlerAttempts", in.HandlerAttempts},
		{"Receiving.SetAside.MaxMessages", in.SetAside.MaxMessages}, {"Receiving.SetAside.MaxBytes", int(in.SetAside.MaxBytes)},
		{"Publishing.PoisonAttempts", out.PoisonAttempts},
		{"Publishing.Breaker.FailureThreshold", out.Breaker.FailureThreshold},
		{"Publishing.Breaker.SuccessesToClose", out.Breaker.SuccessesToClose},
	} {
		v.bad(a.value < 0, a.field, "is %d; use 0 for the default or a positive number", a.value)
	}
	v.bad(conn.KeepAlive < 0 && conn.KeepAlive != NoKeepAlive || conn.KeepAlive > 65_535*time.Second, "Connection.KeepAlive",
		"is %v; use 0 for the default, a positive duration up to 65,535 s, or NoKeepAlive", conn.KeepAlive)
	v.stop(&conn.StopOn)
	v.bad(conn.MaximumPacketSize > 0 && conn.MaximumPacketSize < 64, "Connection.MaximumPacketSize",
		"is %d bytes, which fits no message; use 64 or more", conn.MaximumPacketSize)
	v.bad(c.Session.Expiry < 0 && c.Session.Expiry != NoSession, "Session.Expiry",
		"is %v; use 0 for the default, a positive duration, or NoSession", c.Session.Expiry)
	v.bad(in.UnhandledGrace < 0 && in.UnhandledGrace != NoGrace, "Receiving.UnhandledGrace",
		"is %v; use 0 for the default, a positive duration, or NoGrace", in.UnhandledGrace)
	v.bad(out.TopicAliases < 0 || out.TopicAliases > 65_535, "Publishing.TopicAliases",
		"is %d; use 0 for none or a number up to 65,535", out.TopicAliases)
	v.bad(c.Store.DeadLetters < 0 || c.Store.DeadLetters > 100_000, "Store.DeadLetters",
		"is %d; use 0 for none or a number up to 100,000", c.Store.DeadLetters)
	v.backoff("Connection.Backoff", conn.Backoff)
	v.backoff("Receiving.HandlerBackoff", in.HandlerBackoff)
	v.backoff("Publishing.RetryBackoff", out.RetryBackoff)
	if in.Ordering != nil {
		v.ordering(&in.Ordering.Options)
	}
}

func (v *validator) backoff(field string, b reliability.Backoff) {
	v.bad(b.Min < 0, field+".Min", "is %v; use 0 for the default or a positive duration", b.Min)
	v.bad(b.Max < 0, field+".Max", "is %v; use 0 for the default or a positive duration", b.Max)
	v.bad(b.Max > 0 && b.Max < b.Min, field+".Max", "is %v, less than Min, which is %v; raise it, or lower Min", b.Max, b.Min)
	v.bad(b.Factor != 0 && !(b.Factor >= 1) || math.IsInf(b.Factor, 1), field+".Factor", // the negation also rejects NaN
		"is %v; use 0 for the default or a number of 1 or more", b.Factor)
}

// refusals validates Publishing.Refusals and Publishing.Unsequenced.
func (v *validator) refusals(c *Config) {
	for i, filter := range c.Publishing.Unsequenced {
		v.text(fmt.Sprintf("Publishing.Unsequenced[%d]", i), wire.CheckTopicFilter(filter))
	}
	for i, r := range c.Publishing.Refusals {
		field := fmt.Sprintf("Publishing.Refusals[%d].", i)
		if r.Filter != "" {
			v.text(field+"Filter", wire.CheckTopicFilter(r.Filter))
		}
		v.bad(strings.HasPrefix(r.Filter, "$share/"), field+"Filter", "is that of a Shared Subscription; use the filter after the share name")
		for _, code := range r.Codes {
			v.bad(code > 0 && code < 0x80, field+"Codes", "has 0x%02X, with which the server accepts a message; use codes of 0x80 or above, or 0 for connections that end without a code", code)
			v.bad(r.Action == LowerQoS && code != wire.ReasonQoSNotSupported, field+"Codes",
				"has 0x%02X, to which LowerQoS does not apply; use 0x9B, or leave it empty", code)
		}
		v.bad(r.Action > LowerQoS, field+"Action", "is %d; use RetryLater, GiveUp, SetAside or LowerQoS", r.Action)
		v.bad(r.Action == SetAside && c.Store.DeadLetters == 0 && c.Store.Custom == nil, field+"Action",
			"is SetAside, but the store keeps no dead letters; set Store.DeadLetters")
		v.bad(r.MaxAttempts < 0, field+"MaxAttempts", "is %d; use 0 for no limit or a positive number", r.MaxAttempts)
		v.bad(r.MaxTime < 0, field+"MaxTime", "is %v; use 0 for no limit or a positive duration", r.MaxTime)
		v.bad(r.Action != RetryLater && r.MaxAttempts > 0, field+"MaxAttempts", "is set, but applies to RetryLater only; leave it at 0")
		v.bad(r.Action != RetryLater && r.MaxTime > 0, field+"MaxTime", "is set, but applies to RetryLater only; leave it at 0")
	}
}

func (v *validator) ordering(o *ordering.Options) {
	for _, a := range []struct {
		field string
		value int64
	}{
		{"MaxKeys", int64(o.MaxKeys)}, {"MaxHeldPerKey", int64(o.MaxHeldPerKey)}, {"MaxHeld", int64(o.MaxHeld)},
		{"MaxRanges", int64(o.MaxRanges)}, {"MaxIDs", int64(o.MaxIDs)}, {"MaxIDBytes", o.MaxIDBytes}, {"MaxStreamBytes", o.MaxStreamBytes}, {"GapTimeout", int64(o.GapTimeout)},
	} {
		v.bad(a.value < 0, "Receiving.Ordering."+a.field, "is negative; use 0 for the default or a positive value")
	}
	v.bad(o.Start > ordering.FromOne, "Receiving.Ordering.Start", "is %d; use Adopt or FromOne", o.Start)
	v.bad(o.Late > ordering.DropLate, "Receiving.Ordering.Late", "is %d; use DeliverLate or DropLate", o.Late)
}

// choices validates policies and settings that exclude each other.
func (v *validator) choices(c *Config) {
	s, store := &c.Session, &c.Store
	err := store.Options.Validate()
	v.bad(err != nil, "Store.Options", "%v", err)
	v.bad(store.WhenFull > DropNewest, "Store.WhenFull", "is %d; use Reject, Block, DropOldest or DropNewest", store.WhenFull)
	v.bad(store.WhenFull == DropOldest && store.Custom != nil, "Store.WhenFull",
		"is DropOldest, which a Custom store applies itself; set it in the options of that store")
	v.bad(err == nil && store.Options.Limits.WhenFull != persistence.Reject, "Store.Options.Limits.WhenFull",
		"is set; set Store.WhenFull instead")
	v.bad(err == nil && store.Options.Retention.MaxDeadLetters != 0, "Store.Options.Retention.MaxDeadLetters",
		"is set; set Store.DeadLetters instead")
	v.bad(s.Mode > StrictSession, "Session.Mode", "is %d; use ResumeSession or StrictSession", s.Mode)
	v.bad(s.Mode == StrictSession && s.Expiry == NoSession, "Session.Mode",
		"is StrictSession, but with NoSession no session is kept; set a Session.Expiry")
	v.bad(s.OnStuck > StuckKeep, "Session.OnStuck", "is %d; use StuckRenewIfUnsubscribed, StuckRenew or StuckKeep", s.OnStuck)
	v.bad(s.OnTakeover > TakeoverStop, "Session.OnTakeover", "is %d; use TakeoverBackOff or TakeoverStop", s.OnTakeover)
	v.bad(s.OnLost > FailInFlight, "Session.OnLost", "is %d; use Republish or FailInFlight", s.OnLost)
	v.bad(c.Receiving.OrderingKey != nil && c.Receiving.Ordering != nil, "Receiving.OrderingKey",
		"is set together with Ordering, which needs all messages of a topic in one queue; set only one of them")
}

func (v *validator) transport(c *Config) {
	conn, files := &c.Connection, c.Connection.TLSFiles
	secure, network, webSocket := false, false, false
	for _, s := range c.Servers {
		if u, err := link.ParseServer(s); err == nil {
			secure = secure || u.Scheme == "mqtts" || u.Scheme == "wss"
			network = network || u.Scheme != "unix"
			webSocket = webSocket || u.Scheme == "ws" || u.Scheme == "wss"
		}
	}
	_, err := link.ParseProxy(conn.Proxy)
	v.bad(err != nil, "Connection.Proxy", "%v", err)
	if conn.Dial != nil {
		const alone = "is set together with Dial, which ignores it; set only one of them"
		v.bad(conn.Proxy != "", "Connection.Proxy", alone)
		v.bad(c.TLS != nil, "TLS", alone)
		v.bad(files != nil, "Connection.TLSFiles", alone)
		v.bad(conn.WebSocketRequest != nil, "Connection.WebSocketRequest", alone)
	}
	v.bad(conn.WebSocketRequest != nil && !webSocket, "Connection.WebSocketRequest",
		"is set, but no server in Servers uses WebSocket; use ws:// or wss://")
	if files != nil {
		const field = "Connection.TLSFiles"
		v.bad(c.TLS != nil, field, "is set together with TLS; set only one of them")
		v.bad((files.Cert == "") != (files.Key == ""), field, "has only one of Cert and Key; set both or none")
		v.bad(!secure, field, "is set, but no server in Servers uses TLS; use mqtts:// or wss://")
	}
	v.bad(conn.Proxy != "" && conn.Proxy != ProxyFromEnvironment && !network, "Connection.Proxy",
		"is set, but all Servers are Unix sockets, which need no proxy; leave it empty")
	v.bad(conn.Credentials != nil && (conn.Username != "" || conn.Password != nil), "Connection.Credentials",
		"is set together with Username or Password; return them from Credentials instead")
}

func (v *validator) will(w *Will) {
	v.bad(w.Delay < 0 || w.Expiry < 0, "Presence.Will.Delay", "or Will.Expiry is negative; use 0 or a positive duration")
	v.bad(len(w.Payload) > wire.MaxString, "Presence.Will.Payload", "is longer than 65,535 bytes; MQTT cannot carry it in a will")
	p := w.packet()
	err := p.Check()
	v.bad(err != nil, "Presence.Will", "%v", err)
	for _, u := range w.UserProperties {
		v.bad(reserved(u.Key), "Presence.Will.UserProperties", "has the reserved name %s; rename it, other names that begin with m- are free", u.Key)
	}
}

func (v *validator) status(s *Status) {
	const field = "Presence.Status."
	v.text(field+"Topic", wire.CheckTopicName("Topic", s.Topic))
	v.bad(s.Delay < 0, field+"Delay", "is %v; use 0 or a positive duration", s.Delay)
	v.bad(s.Delay > 0 && s.AtSessionEnd, field+"Delay",
		"is set together with AtSessionEnd, which waits for the end of the session; set only one of them")
	v.bad(max(len(s.Online), len(s.Offline)) > wire.MaxString, field+"Offline",
		"or Online is longer than 65,535 bytes; MQTT cannot carry it in a will")
	v.bad(s.Structured && (s.Online != nil || s.Offline != nil), field+"Structured",
		"is set together with Online or Offline; Structured makes the payloads, so set only one of them")
	v.bad(s.Version != "" && !s.Structured, field+"Version", "is set without Structured, so it would not be published; set both")
	v.bad(s.Details != nil && !s.Structured, field+"Details", "is set without Structured, so it would not be called; set both")
	v.bad(len(s.Version) > presence.MaxText || !utf8.ValidString(s.Version), field+"Version",
		"is longer than %d bytes, or not UTF-8; shorten it", presence.MaxText)
	v.bad(s.Heartbeat != 0 && (s.Heartbeat < time.Second || s.Heartbeat > presence.MaxInterval), field+"Heartbeat",
		"is %v; use 0 for none, or 1 s to %v", s.Heartbeat, presence.MaxInterval)
}

// storePolicies are the store's policies for each FullPolicy. Block is implemented by the client.
var storePolicies = [...]persistence.FullPolicy{
	Reject: persistence.Reject, Block: persistence.Reject, DropOldest: persistence.DropOldest, DropNewest: persistence.DropNewest,
}
