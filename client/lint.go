package client

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Finding describes valid settings that together may lose messages, mislead others or waste
// resources.
type Finding struct {
	Name     string // for example "will-qos-0"; the same in all versions; docs/doctor.md lists the names
	Severity Severity
	Fields   []string // fields of Config that cause the problem; change the first one first
	Problem  string   // what happens, and when
	Fix      string   // how to change the settings
}

// String returns the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s; %s [%s]", f.Severity, strings.Join(f.Fields, ", "), f.Problem, f.Fix, f.Name)
}

// Severity is the severity of a Finding. A higher value is worse.
type Severity uint8

const (
	Note     Severity = iota // correct only under a condition that Config does not show
	Wasteful                 // wastes traffic, time or memory
	Exposes                  // others may read or forge messages
	Misleads                 // an application or a user gets wrong information, or none
	Loses                    // messages may be lost
)

// String returns the severity's name in lower case.
func (s Severity) String() string {
	return nameOf(s, "severity", "note", "wasteful", "exposes", "misleads", "loses")
}

// Lint returns findings about combinations of settings, the worst first. Lint does not connect to a
// server. The Config may be invalid. Start logs a Note at level Info, and all other findings as
// warnings. Lint cannot check messages. For example, a message with QoS 0, the default, is not
// stored, even with Config.Dir.
func (c Config) Lint() []Finding {
	v := lintView{Config: c, is: c.withDefaults(), conn: &c.Connection, will: c.Presence.Will, status: c.Presence.Status}
	for _, s := range c.Servers {
		if u, err := link.ParseServer(s); err == nil {
			v.servers = append(v.servers, u)
			v.remote = v.remote || !isLocal(u)
		}
	}
	v.durable = c.Dir != "" || c.Store.Custom != nil
	v.session = v.is.Session.Expiry != NoSession
	var found []Finding
	for _, r := range lintRules {
		if r.when(&v) {
			found = append(found, Finding{r.Name, r.Severity, v.named(r.Fields), r.Problem, r.Fix})
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	return found
}

// lintView is the input of the rules: a Config and values derived from it.
type lintView struct {
	Config         // as the application set it
	is      Config // with defaults
	conn    *ConnectionConfig
	will    *Will
	status  *Status
	servers []*url.URL
	remote  bool // a server is on another machine
	durable bool // the store survives the process
	session bool // the server is asked to keep the session
}

// lintRule is a row of the table: a Finding and its condition.
type lintRule struct {
	Name     string
	Severity Severity
	Fields   fields
	Problem  string
	Fix      string
	when     func(v *lintView) bool
}

type fields = []string

// identifiesFiles reports whether the store can detect on this operating system that a file was
// copied.
var identifiesFiles = runtime.GOOS == "linux"

// named replaces the names in list by those that this Config uses.
func (v *lintView) named(list fields) fields {
	list = slices.Clone(list)
	for i, f := range list {
		switch {
		case f == "Dir" && v.Store.Custom != nil:
			list[i] = "Store.Custom"
		case f == "Connection.Password" && v.conn.Credentials != nil:
			list[i] = "Connection.Credentials"
		case v.status != nil:
			list[i] = strings.Replace(f, "Presence.Will.", "Presence.Status.", 1)
		}
	}
	return list
}

// isLocal reports whether a server is reached without a network.
func isLocal(u *url.URL) bool {
	if u.Scheme == "unix" || u.Hostname() == "localhost" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return ip != nil && ip.IsLoopback()
}

// any reports whether a server on another machine has one of the schemes.
func (v *lintView) any(schemes ...string) bool {
	return slices.ContainsFunc(v.servers, func(u *url.URL) bool { return !isLocal(u) && slices.Contains(schemes, u.Scheme) })
}

// Thresholds of the rules.
const (
	// natTimeout is the shortest usual idle timeout of a TCP connection. Azure's load balancers use
	// 4 minutes, AWS's NAT gateway uses 350 s.
	natTimeout = 4 * time.Minute
	// webSocketTimeout is the usual idle timeout of a WebSocket: 60 s by default in nginx and in
	// AWS's Application Load Balancer.
	webSocketTimeout = time.Minute
	// minAckTimeout is how long an acknowledgement may take without a fault. Three TCP
	// retransmissions in a row (RFC 6298) take 7 s, and the server may have to sync.
	minAckTimeout = 8 * time.Second
	// minKeepAlive is the shortest Keep Alive that a busy cellular link can keep.
	minKeepAlive = 5 * time.Second
	// shortSession is a session so short that it does no harm if no client resumes it.
	shortSession = time.Hour
	// minBackoff is the lowest Backoff.Max that protects a restarted server from its clients.
	minBackoff = time.Second
)

// lintRules is the table of rules. docs/doctor.md shows the same table. In Fields, Dir stands for
// the store, Presence.Will for the field that configures the will, and Connection.Password for the
// source of the password.
var lintRules = append([]lintRule{
	{"durable-without-session", Loses, fields{"Session.Expiry", "Dir"},
		"the store outlives the process, but NoSession is set, so the server discards the session after each connection. Messages for this client are lost while it is disconnected. If the acknowledgement of a QoS 2 message is lost, the message may be delivered twice",
		"leave Session.Expiry at its default of 24 h, or set it to the longest expected outage",
		func(v *lintView) bool { return v.durable && !v.session && !v.Session.CleanStart }},
	{"clean-start", Loses, fields{"Session.CleanStart"},
		"the server discards the session each time the process starts. Messages that waited for this client are lost, and QoS 2 messages in flight may be delivered twice",
		"set CleanStart for one start only, to discard a session on purpose",
		func(v *lintView) bool { return v.Session.CleanStart && v.durable }},
	{"session-shorter-than-backoff", Loses, fields{"Session.Expiry", "Connection.Backoff.Max", "Connection.ConnectTimeout"},
		"the session may expire within one backoff delay and one attempt to connect, so an outage of that length loses the session",
		"raise Session.Expiry, or lower Backoff.Max",
		func(v *lintView) bool {
			longest := cmp.Or(v.conn.Backoff.Max, time.Minute)
			return v.session && v.is.Session.Expiry < max(longest, v.conn.Backoff.Min)+v.is.Connection.ConnectTimeout
		}},
	{"sync-never", Loses, fields{"Store.Options.Sync", "Dir"},
		"SyncNever is set: a power cut loses every message accepted since the last segment was full. New messages then reuse the packet identifiers of the lost messages, and their sequence numbers in a new epoch",
		"use SyncEveryCommit, the default; or use SyncInterval, with which a power cut loses at most the messages of one interval",
		func(v *lintView) bool { return v.Dir != "" && v.Store.Options.Sync == persistence.SyncNever }},
	{"will-qos-0", Loses, fields{"Presence.Will.QoS"},
		"the will has QoS 0: a subscriber that is disconnected or slow when the server publishes the will never receives it",
		"use AtLeastOnce",
		func(v *lintView) bool { return v.will != nil && v.will.QoS == AtMostOnce }},
	{"will-after-session", Misleads, fields{"Presence.Will.Delay", "Session.Expiry"},
		"the delay is longer than the session expiry, so the server publishes the will when the session ends and does not wait for the delay",
		"raise Session.Expiry above the delay; to publish the end of the session on purpose, use Status.AtSessionEnd",
		func(v *lintView) bool {
			w := v.is.Presence.Will
			return w != nil && w.Delay > max(v.is.Session.Expiry, 0) && !(v.status != nil && v.status.AtSessionEnd)
		}},
	{"session-never-ends", Misleads, fields{"Presence.Status.AtSessionEnd", "Session.Expiry"},
		"the server publishes the offline status when the session ends, but the session never expires, so the server never publishes it",
		"set a Session.Expiry below 136 years, or use Status.Delay",
		func(v *lintView) bool {
			return v.status != nil && v.status.AtSessionEnd && wire.Seconds(v.is.Session.Expiry) == math.MaxUint32
		}},
	{"will-not-retained", Misleads, fields{"Presence.Will.Retain"},
		"the will is not retained: a client that subscribes or reconnects after the server has published the will does not receive it",
		"set Retain, and publish another retained message to the topic after connecting; or use Status, which does both",
		func(v *lintView) bool { return v.will != nil && !v.will.Retain }},
	{"keep-alive-beyond-nat", Misleads, fields{"Connection.KeepAlive"},
		"KeepAlive is not shorter than the idle timeout of usual NATs and load balancers (4 minutes, or 60 s for WebSocket). Such a NAT or load balancer drops an idle connection, and neither side notices. Messages then wait, and this client is shown as online, until 1.5 times KeepAlive has passed",
		"use less than 4 minutes, or less than 60 s with ws and wss; the default is 30 s",
		func(v *lintView) bool {
			if v.conn.Dial != nil {
				return false // the route is unknown
			}
			return v.any("mqtt", "mqtts") && v.is.Connection.KeepAlive >= natTimeout || v.any("ws", "wss") && v.is.Connection.KeepAlive >= webSocketTimeout
		}},
	{"no-keep-alive", Misleads, fields{"Connection.KeepAlive"},
		"NoKeepAlive is set, so the client sends no PINGREQ and does not detect a connection that is dead in both directions. A client that only receives then waits indefinitely and is shown as online. AckTimeout detects a dead connection only while messages are in flight",
		"use less than 4 minutes, or less than 60 s with ws and wss; the default is 30 s",
		func(v *lintView) bool { return v.remote && v.conn.KeepAlive == NoKeepAlive }},
	{"numbers-in-memory", Misleads, fields{"Publishing.Sequenced", "Dir"},
		"the store that numbers the messages is in memory and ends with the process. After a restart, the sequence numbers start again, and receivers cannot detect that messages were lost",
		"set Dir",
		func(v *lintView) bool { return v.Publishing.Sequenced && !v.durable }},
	{"publish-timeout", Misleads, fields{"Publishing.WaitTimeout", "Connection.ConnectTimeout"},
		"Wait may time out during one attempt to connect, although the message stays in the store and is delivered afterwards",
		"make WaitTimeout longer than ConnectTimeout; to limit the lifetime of a message, set Message.Expiry",
		func(v *lintView) bool {
			return v.Publishing.WaitTimeout > 0 && v.Publishing.WaitTimeout < v.is.Connection.ConnectTimeout
		}},
	{"options-without-dir", Misleads, fields{"Store.Options.Sync", "Dir"},
		"sync options are set, but the store is in memory and does not survive the process",
		"set Dir, or remove the option",
		func(v *lintView) bool {
			o := v.Store.Options
			return !v.durable && (o.Sync != 0 || o.Interval != 0)
		}},
	{"stop-always", Misleads, fields{"Connection.StopOn"},
		"StopAlways is set: while the server's authentication backend fails, each client that reconnects stops permanently and its messages wait in the store",
		"leave StopOn.When at StopNew, the default, and watch ConnectFailed events",
		func(v *lintView) bool { return v.conn.StopOn.When == StopAlways }},
	{"options-beside-store", Misleads, fields{"Store.Options", "Store.Custom"},
		"the options apply to Dir and to a store in memory, and have no effect on a custom store",
		"pass the options to the custom store when you open it",
		func(v *lintView) bool { return v.Store.Custom != nil && !reflect.ValueOf(v.Store.Options).IsZero() }},
	{"heartbeat-untold", Misleads, fields{"Presence.Status.Heartbeat", "Presence.Status.Structured"},
		"the client publishes heartbeats, but a plain payload does not contain their interval, so watchers cannot detect a missing heartbeat",
		"set Structured, or remove Heartbeat",
		func(v *lintView) bool { return v.status != nil && v.status.Heartbeat > 0 && !v.status.Structured }},
	{"password-in-the-clear", Exposes, fields{"Servers", "Connection.Password"},
		"a server on another machine is used without encryption: anyone on the network path can read the password",
		"use mqtts or wss",
		func(v *lintView) bool {
			return (len(v.conn.Password) > 0 || v.conn.Credentials != nil) && v.conn.Dial == nil && v.any("mqtt", "ws")
		}},
	{"tls-unused", Exposes, fields{"TLS", "Servers"},
		"TLS is configured, but no server uses it: all traffic is unencrypted",
		"use mqtts:// or wss://",
		func(v *lintView) bool {
			return v.TLS != nil && len(v.servers) > 0 && !slices.ContainsFunc(v.servers, func(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" })
		}},
	{"tls-unverified", Exposes, fields{"TLS.InsecureSkipVerify"},
		"certificates are not verified: anyone on the network path can impersonate the server, and read the password and the messages",
		"set RootCAs to the server's certificate authority, or verify in VerifyConnection",
		func(v *lintView) bool {
			t := v.TLS
			return t != nil && t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil && v.any("mqtts", "wss")
		}},
	{"receive-maximum-below-concurrency", Wasteful, fields{"Receiving.ReceiveMaximum", "Receiving.Concurrency"},
		"ReceiveMaximum is lower than the number of workers. At QoS 1 and 2, the server sends at most ReceiveMaximum messages at a time, so some workers stay idle",
		"raise ReceiveMaximum to several times Receiving.Concurrency, or lower Receiving.Concurrency",
		func(v *lintView) bool { return int(v.is.Receiving.ReceiveMaximum) < v.is.Receiving.Concurrency }},
	{"ack-timeout-short", Wasteful, fields{"Connection.AckTimeout"},
		"over a lossy link or from a busy server, an acknowledgement may take longer than AckTimeout. The client then ends working connections and resends messages in flight",
		"use 8 s or more; the default is 30 s",
		func(v *lintView) bool { return v.remote && v.conn.AckTimeout > 0 && v.conn.AckTimeout < minAckTimeout }},
	{"ack-timeout-beyond-keep-alive", Note, fields{"Connection.AckTimeout", "Connection.KeepAlive"},
		"the keep alive ends a dead connection earlier than AckTimeout, after 1.5 times KeepAlive. AckTimeout then only detects a server that answers pings but acknowledges nothing",
		"to detect a dead connection sooner while messages are in flight, make AckTimeout shorter than KeepAlive",
		func(v *lintView) bool {
			return v.conn.KeepAlive != NoKeepAlive && v.conn.AckTimeout > v.is.Connection.KeepAlive*3/2
		}},
	{"keep-alive-short", Wasteful, fields{"Connection.KeepAlive"},
		"KeepAlive is so short that the client ends slow connections and keeps idle devices awake",
		"use 10 s or more; AckTimeout detects a dead connection sooner while messages are in flight",
		func(v *lintView) bool {
			return v.remote && v.conn.KeepAlive != NoKeepAlive && v.is.Connection.KeepAlive < minKeepAlive
		}},
	{"backoff-short", Wasteful, fields{"Connection.Backoff.Max"},
		"the maximum delay is below 1 s: while the server is down, all its clients keep trying to connect, and the server restarts under that load",
		"use 10 s or more; the default is 1 minute. Client.NetworkChanged starts the next attempt at once",
		func(v *lintView) bool {
			return v.remote && v.conn.Backoff.Max > 0 && max(v.conn.Backoff.Max, v.conn.Backoff.Min) < minBackoff
		}},
	{"session-nobody-finds", Wasteful, fields{"Session.Expiry", "ClientID"},
		"each process has another ClientID: after a crash, the server keeps a session with its messages, and no client ever resumes this session",
		"set a fixed ClientID, or NoSession",
		func(v *lintView) bool { return v.ClientID == "" && v.Session.Expiry > shortSession }},
	{"dedupe-forgets", Note, fields{"Receiving.Dedupe"},
		"the cache is in memory and empty, but the session outlives the process. Unless the application fills the cache from its own records, the client handles messages a second time if the server resends them after a restart",
		"use dedupe.OpenFile, or fill the cache before New",
		func(v *lintView) bool {
			m, memory := v.Receiving.Dedupe.(*dedupe.Memory)
			return memory && m != nil && m.Stats().Size == 0 && v.durable && v.session
		}},
	{"sync-interval", Note, fields{"Store.Options.Sync", "Dir"},
		"SyncInterval is set: a power cut loses the messages accepted in the last interval. New messages then reuse their sequence numbers in a new epoch, and their packet identifiers in the same session. The server may therefore mistake a new QoS 2 message for a lost one and drop it",
		"use SyncEveryCommit, the default, for messages that must arrive exactly once",
		func(v *lintView) bool { return v.Dir != "" && v.Store.Options.Sync == persistence.SyncInterval }},
	{"copies-unnoticed", Note, fields{"Dir"},
		"on this operating system, the store cannot detect that it was copied or restored. Receivers and the server may then mistake new messages of the copy for messages of the original",
		"call persistence.DeclareCopy on a copied or restored folder before you start its client",
		func(v *lintView) bool { return v.Dir != "" && !identifiesFiles }},
	{"several-servers", Note, fields{"Servers", "Session.Shared", "Session.Expiry"},
		"several servers are listed. If these servers do not share sessions, each failover loses the session, and messages in flight may be delivered twice",
		"if the servers are nodes of one cluster that share sessions, set Session.Shared; or set NoSession, if the application accepts duplicates",
		func(v *lintView) bool {
			for _, u := range v.servers {
				if u.Host != v.servers[0].Host {
					return v.session && v.durable && !v.Session.Shared
				}
			}
			return false
		}},
}, refusalLints...)

// sharedUnordered is a finding about a subscription, which is not part of a Config.
var sharedUnordered = Finding{Name: "shared-unordered", Severity: Misleads, Fields: fields{"Receiving.Ordering"},
	Problem: "a handler is declared for a Shared Subscription. The server distributes the messages over several clients, so this client handles them in the order of receipt and reports no gaps",
	Fix:     "subscribe without $share if the order matters, or set Ordering only in other clients"}
