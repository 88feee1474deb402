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

// Finding describes a valid combination of settings that may lose messages, misleads, or is
// wasteful.
type Finding struct {
	Name     string // for example "will-qos-0"; the same in all versions; docs/doctor.md lists the names
	Severity Severity
	Fields   []string // fields of Config involved; change the first one first
	Problem  string   // what happens, and when
	Fix      string   // what to write instead
}

// String returns the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s %s; %s [%s]", f.Severity, strings.Join(f.Fields, ", "), f.Problem, f.Fix, f.Name)
}

// Severity is the severity of a Finding. A higher value is worse.
type Severity uint8

const (
	Note     Severity = iota // correct only under a condition that Config does not show
	Wasteful                 // wastes traffic, time or memory
	Exposes                  // others may read or forge messages
	Misleads                 // someone gets wrong or missing information
	Loses                    // messages may be lost
)

// String returns the severity's name in lower case.
func (s Severity) String() string {
	return nameOf(s, "severity", "note", "wasteful", "exposes", "misleads", "loses")
}

// Lint returns findings about combinations of settings, the worst first. It does not connect. An
// invalid Config also has findings. Start logs each finding: a Note at level Info, all others as
// warnings. Lint cannot check messages: a message with QoS 0, the default, is not stored, even with
// Config.Dir.
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
	// minBackoff is the lowest reasonable Backoff.Max. It protects a restarted server from all its
	// clients.
	minBackoff = time.Second
)

// lintRules is the table of rules. docs/doctor.md shows the same table. In Fields, Dir stands for
// the store, Presence.Will for the field that configures the will, and Connection.Password for the
// source of the password.
var lintRules = append([]lintRule{
	{"durable-without-session", Loses, fields{"Session.Expiry", "Dir"},
		"the outbox outlives the process, but with NoSession the server forgets us with each connection: messages for us are lost while we are away, and a QoS 2 message whose acknowledgement was lost is delivered twice",
		"leave Session.Expiry at its default of 24 h, or set what an outage may take",
		func(v *lintView) bool { return v.durable && !v.session && !v.Session.CleanStart }},
	{"clean-start", Loses, fields{"Session.CleanStart"},
		"the session that the store goes on with is given up at each start of the process: what waited for us at the server is lost, and QoS 2 messages that were under way are delivered twice",
		"set it once, to give a session up on purpose, and take it out again",
		func(v *lintView) bool { return v.Session.CleanStart && v.durable }},
	{"session-shorter-than-backoff", Loses, fields{"Session.Expiry", "Connection.Backoff.Max", "Connection.ConnectTimeout"},
		"the session ends before the longest pause between two attempts to connect and one attempt have passed, so an outage of that length loses it",
		"raise Session.Expiry, or lower Backoff.Max",
		func(v *lintView) bool {
			longest := cmp.Or(v.conn.Backoff.Max, time.Minute)
			return v.session && v.is.Session.Expiry < max(longest, v.conn.Backoff.Min)+v.is.Connection.ConnectTimeout
		}},
	{"sync-never", Loses, fields{"Store.Options.Sync", "Dir"},
		"is SyncNever: a power cut loses every message that was accepted since the last segment was full, their packet identifiers are used again, and their numbers in a new epoch",
		"use SyncEveryCommit, the default, or SyncInterval to lose no more than the interval",
		func(v *lintView) bool { return v.Dir != "" && v.Store.Options.Sync == persistence.SyncNever }},
	{"will-qos-0", Loses, fields{"Presence.Will.QoS"},
		"is 0: a subscriber whose link is just down, or busy, never gets the will",
		"use AtLeastOnce",
		func(v *lintView) bool { return v.will != nil && v.will.QoS == AtMostOnce }},
	{"will-after-session", Misleads, fields{"Presence.Will.Delay", "Session.Expiry"},
		"is longer than the session is kept, so the server publishes the will when the session ends, and not after the delay",
		"raise Session.Expiry above it; to be told of the session's end on purpose, use Status.AtSessionEnd",
		func(v *lintView) bool {
			w := v.is.Presence.Will
			return w != nil && w.Delay > max(v.is.Session.Expiry, 0) && !(v.status != nil && v.status.AtSessionEnd)
		}},
	{"session-never-ends", Misleads, fields{"Presence.Status.AtSessionEnd", "Session.Expiry"},
		"asks for offline at the end of a session that the server keeps for ever: it is never said",
		"set a Session.Expiry below 136 years, or Status.Delay instead",
		func(v *lintView) bool {
			return v.status != nil && v.status.AtSessionEnd && wire.Seconds(v.is.Session.Expiry) == math.MaxUint32
		}},
	{"will-not-retained", Misleads, fields{"Presence.Will.Retain"},
		"is not set: who subscribes, or comes back, after the will was published does not learn that we are gone",
		"set Retain, and publish another retained message to the topic when connected; or use Status, which does both",
		func(v *lintView) bool { return v.will != nil && !v.will.Retain }},
	{"keep-alive-beyond-nat", Misleads, fields{"Connection.KeepAlive"},
		"is as long as NATs and load balancers on the way keep a silent connection, or longer (4 minutes; 60 s for WebSocket): it dies without a word, messages wait, and we are shown online, until one and a half times KeepAlive have passed",
		"use less than 4 minutes, less than 60 s with ws and wss; the default is 30 s",
		func(v *lintView) bool {
			if v.conn.Dial != nil {
				return false // the route is unknown
			}
			return v.any("mqtt", "mqtts") && v.is.Connection.KeepAlive >= natTimeout || v.any("ws", "wss") && v.is.Connection.KeepAlive >= webSocketTimeout
		}},
	{"no-keep-alive", Misleads, fields{"Connection.KeepAlive"},
		"is NoKeepAlive: no PINGREQ finds a connection that is dead in both directions, so a client that only receives waits indefinitely and the server shows it online; only AckTimeout finds it, while messages are in flight",
		"use a duration below 4 minutes, less than 60 s with ws and wss; the default is 30 s",
		func(v *lintView) bool { return v.remote && v.conn.KeepAlive == NoKeepAlive }},
	{"numbers-in-memory", Misleads, fields{"Publishing.Sequenced", "Dir"},
		"numbers messages in a store that ends with the process: after a restart the numbers begin anew, and receivers see no gap where messages were lost with it",
		"set Dir",
		func(v *lintView) bool { return v.Publishing.Sequenced && !v.durable }},
	{"publish-timeout", Misleads, fields{"Publishing.WaitTimeout", "Connection.ConnectTimeout"},
		"is shorter than one attempt to connect may take: Wait gives up on messages that stay in the store and are delivered afterwards",
		"make it longer than ConnectTimeout; to give a message up for good, set its Expiry",
		func(v *lintView) bool {
			return v.Publishing.WaitTimeout > 0 && v.Publishing.WaitTimeout < v.is.Connection.ConnectTimeout
		}},
	{"options-without-dir", Misleads, fields{"Store.Options.Sync", "Dir"},
		"says when to sync, but the store is in memory: nothing survives the process",
		"set Dir, or take the option out",
		func(v *lintView) bool {
			o := v.Store.Options
			return !v.durable && (o.Sync != 0 || o.Interval != 0)
		}},
	{"stop-always", Misleads, fields{"Connection.StopOn"},
		"is StopAlways: while what checks a CONNECT is away or wrong, such as the server's authentication backend, each client that reconnects stops for good and its messages wait in the store",
		"leave it at StopNew, the default, and watch ConnectFailed events",
		func(v *lintView) bool { return v.conn.StopOn.When == StopAlways }},
	{"options-beside-store", Misleads, fields{"Store.Options", "Store.Custom"},
		"are for Dir and for a store in memory; a Store of your own has its own, so the limits here do nothing",
		"give them to the store when it is opened",
		func(v *lintView) bool { return v.Store.Custom != nil && !reflect.ValueOf(v.Store.Options).IsZero() }},
	{"heartbeat-untold", Misleads, fields{"Presence.Status.Heartbeat", "Presence.Status.Structured"},
		"is repeated, but a plain payload does not say how often: watchers cannot take its absence for a sign",
		"set Structured, or no Heartbeat",
		func(v *lintView) bool { return v.status != nil && v.status.Heartbeat > 0 && !v.status.Structured }},
	{"password-in-the-clear", Exposes, fields{"Servers", "Connection.Password"},
		"name one without encryption that is not on this machine: whoever is on the way reads the password",
		"use mqtts or wss",
		func(v *lintView) bool {
			return (len(v.conn.Password) > 0 || v.conn.Credentials != nil) && v.conn.Dial == nil && v.any("mqtt", "ws")
		}},
	{"tls-unused", Exposes, fields{"TLS", "Servers"},
		"is set, but no server uses it: everything goes without encryption",
		"write mqtts:// or wss://",
		func(v *lintView) bool {
			return v.TLS != nil && len(v.servers) > 0 && !slices.ContainsFunc(v.servers, func(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" })
		}},
	{"tls-unverified", Exposes, fields{"TLS.InsecureSkipVerify"},
		"is set: anyone on the way can pose as the server, and get the password and the messages",
		"set RootCAs to the server's certificate authority, or check in VerifyConnection",
		func(v *lintView) bool {
			t := v.TLS
			return t != nil && t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil && v.any("mqtts", "wss")
		}},
	{"receive-maximum-below-concurrency", Wasteful, fields{"Receiving.ReceiveMaximum", "Receiving.Concurrency"},
		"is lower than the number of workers: no more messages than that are with us at QoS 1 and 2, so some workers never have one",
		"raise ReceiveMaximum to several times Receiving.Concurrency, or lower that",
		func(v *lintView) bool { return int(v.is.Receiving.ReceiveMaximum) < v.is.Receiving.Concurrency }},
	{"ack-timeout-short", Wasteful, fields{"Connection.AckTimeout"},
		"is shorter than an acknowledgement may take over a link that loses packets, or from a server that is busy: connections that stand are ended, and what was under way is sent again",
		"use 8 s or more; the default is 30 s",
		func(v *lintView) bool { return v.remote && v.conn.AckTimeout > 0 && v.conn.AckTimeout < minAckTimeout }},
	{"ack-timeout-beyond-keep-alive", Note, fields{"Connection.AckTimeout", "Connection.KeepAlive"},
		"is longer than a dead link stands: keep alive ends it after one and a half times KeepAlive, so AckTimeout only finds a server that answers pings and acknowledges nothing",
		"make it shorter than KeepAlive if messages under way are to find a dead link sooner",
		func(v *lintView) bool {
			return v.conn.KeepAlive != NoKeepAlive && v.conn.AckTimeout > v.is.Connection.KeepAlive*3/2
		}},
	{"keep-alive-short", Wasteful, fields{"Connection.KeepAlive"},
		"is so short that a link that is only slow is given up, and an idle device is kept awake",
		"use 10 s or more; AckTimeout finds a dead link sooner while messages are under way",
		func(v *lintView) bool {
			return v.remote && v.conn.KeepAlive != NoKeepAlive && v.is.Connection.KeepAlive < minKeepAlive
		}},
	{"backoff-short", Wasteful, fields{"Connection.Backoff.Max"},
		"is below a second: when the server is down all its clients keep knocking, and it comes back under that load",
		"use 10 s or more; the default is a minute. Client.NetworkChanged makes the next attempt at once",
		func(v *lintView) bool {
			return v.remote && v.conn.Backoff.Max > 0 && max(v.conn.Backoff.Max, v.conn.Backoff.Min) < minBackoff
		}},
	{"session-nobody-finds", Wasteful, fields{"Session.Expiry", "ClientID"},
		"is set, but each process has another ClientID: after a crash the server keeps a session, and what comes for it, that nobody will ask for",
		"set a ClientID that stays the same, or NoSession",
		func(v *lintView) bool { return v.ClientID == "" && v.Session.Expiry > shortSession }},
	{"dedupe-forgets", Note, fields{"Receiving.Dedupe"},
		"is in memory and empty, while the session outlives the process: unless the program fills it from its own records, what the server sends again after a restart is handled again",
		"use dedupe.OpenFile, or fill it before New",
		func(v *lintView) bool {
			m, memory := v.Receiving.Dedupe.(*dedupe.Memory)
			return memory && m != nil && m.Stats().Size == 0 && v.durable && v.session
		}},
	{"sync-interval", Note, fields{"Store.Options.Sync", "Dir"},
		"is SyncInterval: a power cut loses what was accepted in the last interval. The numbers of lost messages are used again in a new epoch, but their packet identifiers are used again in the same session: the server may take a new QoS 2 message for a lost one",
		"use SyncEveryCommit, the default, for messages that must arrive exactly once",
		func(v *lintView) bool { return v.Dir != "" && v.Store.Options.Sync == persistence.SyncInterval }},
	{"copies-unnoticed", Note, fields{"Dir"},
		"is on a system where the store cannot notice that it was copied or restored: receivers and the server take its new messages for those of the original",
		"call persistence.DeclareCopy on a folder that was copied or restored, before its client starts",
		func(v *lintView) bool { return v.Dir != "" && !identifiesFiles }},
	{"several-servers", Note, fields{"Servers", "Session.Expiry"},
		"are several: where they do not share sessions, each fail-over loses the session, and messages under way may be delivered twice",
		"name the nodes of one cluster, or set NoSession and expect at least once",
		func(v *lintView) bool {
			for _, u := range v.servers {
				if u.Host != v.servers[0].Host {
					return v.session && v.durable
				}
			}
			return false
		}},
}, refusalLints...)

// sharedUnordered is a finding about a subscription, which is not part of a Config.
var sharedUnordered = Finding{Name: "shared-unordered", Severity: Misleads, Fields: fields{"Receiving.Ordering"},
	Problem: "is set, and a handler is declared for a Shared Subscription: the server spreads its messages over several clients, so this client handles them as they come, and reports no gaps in them",
	Fix:     "subscribe without $share where the order matters, or leave Ordering to other clients"}
