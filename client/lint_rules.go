package client

import (
	"math"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// What the rules hold to be too long or too short.
const (
	// natPatience is the shortest idle timeout that is usual on the way of a TCP
	// connection: Azure's load balancers forget one after 4 minutes, AWS's Network
	// Load Balancer and NAT gateway after 350 s. (RFC 5382 asks NATs for 2 hours and
	// 4 minutes, which carriers do not keep.)
	natPatience = 4 * time.Minute
	// webPatience is that on the way of a WebSocket: nginx's proxy_read_timeout and
	// the idle timeout of AWS's Application Load Balancer are 60 s.
	webPatience = time.Minute
	// ackPatience is what an acknowledgement may take without anything being wrong:
	// three retransmissions of TCP in a row, the first after 1 s and each after
	// twice the time (RFC 6298), are 7 s, and a server that syncs takes its own.
	ackPatience = 8 * time.Second
	// impatient is a Keep Alive that a busy cellular link does not keep.
	impatient = 5 * time.Second
	// abandoned is a session so short that it does not matter if nobody asks for it.
	abandoned = time.Hour
	// leastPause is the least that Backoff.Max should be, for a server that comes
	// back to all of its clients at once.
	leastPause = time.Second
)

// lintRules is the table. docs/doctor.md is the same for readers.
var lintRules = []lintRule{
	{
		Finding: Finding{Name: "durable-without-session", Severity: Loses, Fields: []string{"Session.Expiry", "Dir"},
			Problem: "the outbox outlives the process, but with NoSession the server forgets us with each connection: messages for us are lost while we are away, and a QoS 2 message whose acknowledgement was lost is delivered twice",
			Fix:     "leave Session.Expiry at its default of 24 h, or set what an outage may take"},
		when:   func(v *lintView) bool { return v.durable && !v.session && !v.set.Session.CleanStart },
		fields: func(v *lintView) []string { return []string{"Session.Expiry", storeField(v)} },
	},
	{
		Finding: Finding{Name: "clean-start", Severity: Loses, Fields: []string{"Session.CleanStart"},
			Problem: "the session that the store goes on with is given up at each start of the process: what waited for us at the server is lost, and QoS 2 messages that were under way are delivered twice",
			Fix:     "set it once, to give a session up on purpose, and take it out again"},
		when: func(v *lintView) bool { return v.set.Session.CleanStart && v.durable },
	},
	{
		Finding: Finding{Name: "session-shorter-than-backoff", Severity: Loses, Fields: []string{"Session.Expiry", "Connection.Backoff.Max", "Connection.ConnectTimeout"},
			Problem: "the session ends before the longest pause between two attempts to connect and one attempt have passed, so an outage of that length loses it",
			Fix:     "raise Session.Expiry, or lower Backoff.Max"},
		when: func(v *lintView) bool {
			longest := v.set.Connection.Backoff.Max
			def(&longest, time.Minute)
			return v.session && v.is.Session.Expiry < max(longest, v.set.Connection.Backoff.Min)+v.is.Connection.ConnectTimeout
		},
	},
	{
		Finding: Finding{Name: "sync-never", Severity: Loses, Fields: []string{"Store.Options.Sync", "Dir"},
			Problem: "is SyncNever: a power cut loses every message that was accepted since the last segment was full, and their numbers and packet identifiers are used again",
			Fix:     "use SyncEveryCommit, the default, or SyncInterval to lose no more than the interval"},
		when: func(v *lintView) bool { return v.set.Dir != "" && v.set.Store.Options.Sync == persistence.SyncNever },
	},
	{
		Finding: Finding{Name: "will-qos-0", Severity: Loses, Fields: []string{"Presence.Will.QoS"},
			Problem: "is 0: a subscriber whose link is just down, or busy, never gets the will",
			Fix:     "use AtLeastOnce"},
		when: func(v *lintView) bool { return v.set.Presence.Will != nil && v.set.Presence.Will.QoS == AtMostOnce },
	},
	{
		Finding: Finding{Name: "will-after-session", Severity: Misleads, Fields: []string{"Presence.Will.Delay", "Session.Expiry"},
			Problem: "is longer than the session is kept, so the server publishes the will when the session ends, and not after the delay",
			Fix:     "raise Session.Expiry above it; to be told of the session's end on purpose, use Status.AtSessionEnd"},
		when: func(v *lintView) bool {
			w := v.is.Presence.Will
			return w != nil && w.Delay > max(v.is.Session.Expiry, 0) && !(v.set.Presence.Status != nil && v.set.Presence.Status.AtSessionEnd)
		},
		fields: func(v *lintView) []string { return []string{willField(v, "Delay"), "Session.Expiry"} },
	},
	{
		Finding: Finding{Name: "session-never-ends", Severity: Misleads, Fields: []string{"Presence.Status.AtSessionEnd", "Session.Expiry"},
			Problem: "asks for offline at the end of a session that the server keeps for ever: it is never said",
			Fix:     "set a Session.Expiry below 136 years, or Status.Delay instead"},
		when: func(v *lintView) bool {
			return v.set.Presence.Status != nil && v.set.Presence.Status.AtSessionEnd && wire.Seconds(v.is.Session.Expiry) == math.MaxUint32
		},
	},
	{
		Finding: Finding{Name: "will-not-retained", Severity: Misleads, Fields: []string{"Presence.Will.Retain"},
			Problem: "is not set: who subscribes, or comes back, after the will was published does not learn that we are gone",
			Fix:     "set Retain, and publish another retained message to the topic when connected; or use Status, which does both"},
		when: func(v *lintView) bool { return v.set.Presence.Will != nil && !v.set.Presence.Will.Retain },
	},
	{
		Finding: Finding{Name: "keep-alive-beyond-nat", Severity: Misleads, Fields: []string{"Connection.KeepAlive"},
			Problem: "is as long as NATs and load balancers on the way keep a silent connection, or longer (4 minutes; 60 s for WebSocket): it dies without a word, messages wait, and we are shown online, until one and a half times KeepAlive have passed",
			Fix:     "use less than 4 minutes, less than 60 s with ws and wss; the default is 30 s"},
		when: func(v *lintView) bool {
			if v.set.Connection.Dial != nil {
				return false // nothing is known of that way
			}
			return v.any("mqtt", "mqtts") && v.is.Connection.KeepAlive >= natPatience || v.any("ws", "wss") && v.is.Connection.KeepAlive >= webPatience
		},
	},
	{
		Finding: Finding{Name: "numbers-in-memory", Severity: Misleads, Fields: []string{"Publishing.Sequenced", "Dir"},
			Problem: "numbers messages in a store that ends with the process: after a restart the numbers begin anew, and receivers see no gap where messages were lost with it",
			Fix:     "set Dir"},
		when: func(v *lintView) bool { return v.set.Publishing.Sequenced && !v.durable },
	},
	{
		Finding: Finding{Name: "publish-timeout", Severity: Misleads, Fields: []string{"Publishing.WaitTimeout", "Connection.ConnectTimeout"},
			Problem: "is shorter than one attempt to connect may take: Wait gives up on messages that stay in the store and are delivered afterwards",
			Fix:     "make it longer than ConnectTimeout; to give a message up for good, set its Expiry"},
		when: func(v *lintView) bool {
			return v.set.Publishing.WaitTimeout > 0 && v.set.Publishing.WaitTimeout < v.is.Connection.ConnectTimeout
		},
	},
	{
		Finding: Finding{Name: "options-without-dir", Severity: Misleads, Fields: []string{"Store.Options.Sync", "Dir"},
			Problem: "says when to sync, but the store is in memory: nothing survives the process",
			Fix:     "set Dir, or take the option out"},
		when: func(v *lintView) bool {
			o := v.set.Store.Options
			return !v.durable && (o.Sync != 0 || o.Interval != 0)
		},
	},
	{
		Finding: Finding{Name: "options-beside-store", Severity: Misleads, Fields: []string{"Store.Options", "Store.Custom"},
			Problem: "are for Dir and for a store in memory; a Store of your own has its own, so the limits here do nothing",
			Fix:     "give them to the store when it is opened"},
		when: func(v *lintView) bool {
			return v.set.Store.Custom != nil && !reflect.ValueOf(v.set.Store.Options).IsZero()
		},
	},
	{
		Finding: Finding{Name: "heartbeat-untold", Severity: Misleads, Fields: []string{"Presence.Status.Heartbeat", "Presence.Status.Structured"},
			Problem: "is repeated, but a plain payload does not say how often: watchers cannot take its absence for a sign",
			Fix:     "set Structured, or no Heartbeat"},
		when: func(v *lintView) bool {
			return v.set.Presence.Status != nil && v.set.Presence.Status.Heartbeat > 0 && !v.set.Presence.Status.Structured
		},
	},
	{
		Finding: Finding{Name: "password-in-the-clear", Severity: Exposes, Fields: []string{"Servers", "Connection.Password"},
			Problem: "name one without encryption that is not on this machine: whoever is on the way reads the password",
			Fix:     "use mqtts or wss"},
		when: func(v *lintView) bool {
			return (len(v.set.Connection.Password) > 0 || v.set.Connection.Credentials != nil) && v.set.Connection.Dial == nil && v.any("mqtt", "ws")
		},
		fields: func(v *lintView) []string {
			if v.set.Connection.Credentials != nil {
				return []string{"Servers", "Connection.Credentials"}
			}
			return []string{"Servers", "Connection.Password"}
		},
	},
	{
		Finding: Finding{Name: "tls-unused", Severity: Exposes, Fields: []string{"TLS", "Servers"},
			Problem: "is set, but no server uses it: everything goes without encryption",
			Fix:     "write mqtts:// or wss://"},
		when: func(v *lintView) bool {
			return v.set.TLS != nil && len(v.servers) > 0 && !slices.ContainsFunc(v.servers, func(u *url.URL) bool { return u.Scheme == "mqtts" || u.Scheme == "wss" })
		},
	},
	{
		Finding: Finding{Name: "tls-unverified", Severity: Exposes, Fields: []string{"TLS.InsecureSkipVerify"},
			Problem: "is set: anyone on the way can pose as the server, and get the password and the messages",
			Fix:     "set RootCAs to the server's certificate authority, or check in VerifyConnection"},
		when: func(v *lintView) bool {
			t := v.set.TLS
			return t != nil && t.InsecureSkipVerify && t.VerifyConnection == nil && t.VerifyPeerCertificate == nil && v.any("mqtts", "wss")
		},
	},
	{
		Finding: Finding{Name: "receive-maximum-below-lanes", Severity: Wasteful, Fields: []string{"Receiving.ReceiveMaximum", "Receiving.Concurrency"},
			Problem: "is lower than the number of workers: no more messages than that are with us at QoS 1 and 2, so some workers never have one",
			Fix:     "raise ReceiveMaximum to several times Receiving.Concurrency, or lower that"},
		when: func(v *lintView) bool { return int(v.is.Receiving.ReceiveMaximum) < v.is.Receiving.Concurrency },
	},
	{
		Finding: Finding{Name: "ack-timeout-short", Severity: Wasteful, Fields: []string{"Connection.AckTimeout"},
			Problem: "is shorter than an acknowledgement may take over a link that loses packets, or from a server that is busy: connections that stand are ended, and what was under way is sent again",
			Fix:     "use 8 s or more; the default is 30 s"},
		when: func(v *lintView) bool {
			return v.remote && v.set.Connection.AckTimeout > 0 && v.set.Connection.AckTimeout < ackPatience
		},
	},
	{
		Finding: Finding{Name: "ack-timeout-beyond-keep-alive", Severity: Note, Fields: []string{"Connection.AckTimeout", "Connection.KeepAlive"},
			Problem: "is longer than a dead link stands: keep alive ends it after one and a half times KeepAlive, so AckTimeout only finds a server that answers pings and acknowledges nothing",
			Fix:     "make it shorter than KeepAlive if messages under way are to find a dead link sooner"},
		when: func(v *lintView) bool { return v.set.Connection.AckTimeout > v.is.Connection.KeepAlive*3/2 },
	},
	{
		Finding: Finding{Name: "keep-alive-short", Severity: Wasteful, Fields: []string{"Connection.KeepAlive"},
			Problem: "is so short that a link that is only slow is given up, and an idle device is kept awake",
			Fix:     "use 10 s or more; AckTimeout finds a dead link sooner while messages are under way"},
		when: func(v *lintView) bool { return v.remote && v.is.Connection.KeepAlive < impatient },
	},
	{
		Finding: Finding{Name: "backoff-short", Severity: Wasteful, Fields: []string{"Connection.Backoff.Max"},
			Problem: "is below a second: when the server is down all its clients keep knocking, and it comes back under that load",
			Fix:     "use 10 s or more; the default is a minute. Client.NetworkChanged makes the next attempt at once"},
		when: func(v *lintView) bool {
			return v.remote && v.set.Connection.Backoff.Max > 0 && max(v.set.Connection.Backoff.Max, v.set.Connection.Backoff.Min) < leastPause
		},
	},
	{
		Finding: Finding{Name: "session-nobody-finds", Severity: Wasteful, Fields: []string{"Session.Expiry", "ClientID"},
			Problem: "is set, but each process has another ClientID: after a crash the server keeps a session, and what comes for it, that nobody will ask for",
			Fix:     "set a ClientID that stays the same, or NoSession"},
		when: func(v *lintView) bool { return v.set.ClientID == "" && v.set.Session.Expiry > abandoned },
	},
	{
		Finding: Finding{Name: "dedupe-forgets", Severity: Note, Fields: []string{"Receiving.Dedupe"},
			Problem: "is in memory and empty, while the session outlives the process: unless the program fills it from its own records, what the server sends again after a restart is handled again",
			Fix:     "use dedupe.OpenFile, or fill it before New"},
		when: func(v *lintView) bool {
			m, memory := v.set.Receiving.Dedupe.(*dedupe.Memory)
			return memory && m != nil && m.Stats().Size == 0 && v.durable && v.session
		},
	},
	{
		Finding: Finding{Name: "several-servers", Severity: Note, Fields: []string{"Servers", "Session.Expiry"},
			Problem: "are several: where they do not share sessions, each fail-over loses the session, and messages under way may be delivered twice",
			Fix:     "name the nodes of one cluster, or set NoSession and expect at least once"},
		when: func(v *lintView) bool {
			for _, u := range v.servers {
				if u.Host != v.servers[0].Host {
					return v.session && v.durable
				}
			}
			return false
		},
	},
}

func storeField(v *lintView) string {
	if v.set.Store.Custom != nil {
		return "Store.Custom"
	}
	return "Dir"
}

func willField(v *lintView, name string) string {
	if v.set.Presence.Status != nil {
		return "Presence.Status." + name
	}
	return "Presence.Will." + name
}
