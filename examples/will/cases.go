package main

import "time"

// scenario is one case: the client with the will, the steps, and the result that MQTT 5 requires.
type scenario struct {
	name   string
	rule   string // the statement that requires the result, or a section if no statement does
	why    string // the explanation in docs/will.md
	device device
	steps  []step

	wills   []time.Duration // when wills are published, counted from the end of the connection
	untimed bool            // wills are among the facts
	facts   []string        // the other facts that must be observed, in this order
	known   []departure     // known departures of mosquitto 2.0.11
}

// device is the client with the will.
type device struct {
	delay      uint32 // Will Delay Interval, seconds
	expiry     uint32 // Session Expiry Interval, seconds
	keepAlive  uint16 // seconds; 0 is the client's default
	retain     bool   // Will Retain
	properties bool   // the will has every property
	status     bool   // a client.Status instead of a will
	raw        bool   // sends what the mooring client would not send
	v311       bool   // raw, and uses MQTT 3.1.1
}

// departure is a known difference of mosquitto 2.0.11 from MQTT 5. A departure that no longer
// happens is reported, and is not a failure.
type departure struct {
	name   string
	noWill bool          // no will is published
	facts  []string      // these are observed instead; nil: as expected
	late   time.Duration // wills may be late by this much, or on time
}

func at(seconds ...time.Duration) (wills []time.Duration) {
	for _, s := range seconds {
		wills = append(wills, s*time.Second)
	}
	return wills
}

const (
	sawTakeover   = "the server sends 0x8E"
	noTakeover    = "the server does not send 0x8E"
	serverCloses  = "the server closes the connection"
	foundOffline  = `a later subscriber gets "offline"`
	foundOnline   = `a later subscriber gets "online"`
	foundNothing  = "a later subscriber gets nothing"
	allProperties = "all properties are unchanged"
)

// Known departures of mosquitto 2.0.11.
var (
	cleanStartSilent  = departure{name: "when a client reconnects with Clean Start 1 within the delay, the will is not published", noWill: true}
	takeoverLosesWill = departure{name: "when a takeover resumes the session, a will without delay is not published", noWill: true}
	takeoverSilent    = departure{name: "at a takeover, the old connection is closed without DISCONNECT 0x8E", facts: []string{noTakeover}}
	expirySilent      = departure{name: "with Session Expiry Interval 0 and a will delay, the will is not published at a takeover or when the client reconnects with Clean Start 0", noWill: true}
	// It checks delayed wills once a second, in whole seconds, and a will with a longer delay
	// waits for those with a shorter one.
	delaysLate = departure{name: "a delayed will is published up to 4 s late", late: 4 * time.Second}
	// It checks for silent clients every six seconds.
	silenceLate = departure{name: "the broker notices up to 8 s late that the keep alive time has passed", late: 8 * time.Second}
)

var cases = []scenario{
	{
		name: "will without delay", rule: "MQTT-3.1.2-8",
		why:    "The connection ends without a DISCONNECT, and the will has no delay. The server publishes the will as soon as it notices the end of the connection. Even a short interruption of the link therefore publishes the will. A Will Delay Interval avoids this.",
		device: device{expiry: 60},
		steps:  []step{connect, cut},
		wills:  at(0),
	},
	{
		name: "no reconnect within the delay", rule: "MQTT-3.1.2-8",
		why:    "The server waits for the Will Delay Interval. The client does not reconnect in this time, so the server then publishes the will.",
		device: device{delay: 2, expiry: 60},
		steps:  []step{connect, cut},
		wills:  at(2), known: []departure{delaysLate},
	},
	{
		name: "reconnect with Clean Start 0 within the delay", rule: "MQTT-3.1.3-9",
		why:    "The client resumes its session before the delay has passed, so the server must not publish the will. Watchers do not notice a short interruption of the link. The mooring client reconnects with Clean Start 0 by itself.",
		device: device{delay: 2, expiry: 60},
		steps:  []step{connect, cut, pause(time.Second), back},
	},
	{
		name: "reconnect with Clean Start 1 within the delay", rule: "MQTT-3.1.2-8",
		why:    "Clean Start 1 discards the session [MQTT-3.1.2-4]. A will cannot exist longer than its session, so the server publishes the will when the client reconnects, before the delay has passed. Subscribers receive the will although the client is connected again. If the client then publishes its online status, subscribers see the correct state again.",
		device: device{delay: 3, expiry: 60},
		steps:  []step{connect, cut, pause(time.Second), successor(true)},
		wills:  at(1), known: []departure{cleanStartSilent},
	},
	{
		name: "session that expires before the delay has passed", rule: "MQTT-3.1.2-8",
		why:    "The server publishes the will when the delay has passed or when the session ends, whichever is first. A Session Expiry Interval that is shorter than the delay therefore shortens the wait.",
		device: device{delay: 30, expiry: 1},
		steps:  []step{connect, cut},
		wills:  at(1), known: []departure{delaysLate},
	},
	{
		name: "takeover (0x8E), will without delay", rule: "MQTT-3.1.4-3",
		why:    "When a second connection uses the same Client Identifier, the server ends the first connection with DISCONNECT 0x8E. The client of the first connection sent no DISCONNECT, so the server publishes a will without delay. On a poor link, this can happen to a single client. The client then reconnects before the server notices the end of its earlier connection.",
		device: device{expiry: 60},
		steps:  []step{connect, takeover(false)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, takeoverLosesWill},
	},
	{
		name: "takeover (0x8E) with Clean Start 0, will with a delay", rule: "MQTT-3.1.3-9",
		why:    "The will has a delay here, and the second connection resumes the session of the first one before the delay has passed. The server therefore does not publish the will.",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, takeover(false)},
		facts:  []string{sawTakeover}, known: []departure{takeoverSilent},
	},
	{
		name: "takeover (0x8E) with Clean Start 1, will with a delay", rule: "MQTT-3.1.2-8",
		why:    "The second connection discards the session of the first one. When that session ends, the server publishes the will at once.",
		device: device{delay: 3, expiry: 60},
		steps:  []step{connect, takeover(true)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, cleanStartSilent},
	},
	{
		name: "takeover (0x8E) with Clean Start 0, session expiry 0, will with a delay", rule: "MQTT-3.1.2-8",
		why:    "With Session Expiry Interval 0, the session ends with its connection. A client that connects with Clean Start 0 then finds no session to resume. The server creates a new session and publishes the will of the old session at once. A will delay has its full effect only if the session lasts at least as long as the delay.",
		device: device{delay: 2},
		steps:  []step{connect, takeover(false)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, expirySilent},
	},
	{
		name: "reconnect with Clean Start 0, session expiry 0, will with a delay", rule: "MQTT-3.1.2-8",
		why:    "With Session Expiry Interval 0, the session ends when the connection is cut. The server publishes the will at that moment. If the client reconnects within the delay, this does not cancel the will.",
		device: device{delay: 2},
		steps:  []step{connect, cut, pause(500 * time.Millisecond), successor(false)},
		wills:  at(0), known: []departure{expirySilent},
	},
	{
		name: "will that reports the end of the session", rule: "MQTT-3.1.2-8",
		why:    "If the delay is longer than the Session Expiry Interval, the will reports the end of the session instead of the end of the connection. A client that leaves on purpose can request the same with DISCONNECT 0x04.",
		device: device{delay: 3600, expiry: 2},
		steps:  []step{connect, leave(0x04)},
		wills:  at(2), known: []departure{delaysLate},
	},
	{
		name: "DISCONNECT 0x00", rule: "MQTT-3.14.4-3",
		why:    "Only DISCONNECT 0x00 (Normal disconnection) ends a connection without a will. The server then deletes the will.",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, leave(0x00)},
	},
	{
		name: "DISCONNECT 0x04", rule: "MQTT-3.1.2-8",
		why:    "The reason code 0x04 means Disconnect with Will Message. The client leaves on purpose, and asks the server to publish the will. The server follows the same rules as after a lost connection (section 3.14.2.1).",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, leave(0x04)},
		wills:  at(1), known: []departure{delaysLate},
	},
	{
		name: "protocol error", rule: "MQTT-4.13.1-1",
		why:    "The client sends a PUBLISH with an empty topic and an unknown Topic Alias. The server closes the connection. The server has received no DISCONNECT 0x00, so it publishes the will after the delay.",
		device: device{raw: true, delay: 2, expiry: 300},
		steps:  []step{connect, violate},
		wills:  at(2), facts: []string{serverCloses}, known: []departure{delaysLate},
	},
	{
		name: "keep alive timeout", rule: "MQTT-3.1.2-22",
		why:    "The link transmits nothing, but neither side closes the connection. This happens, for example, when someone pulls out a cable. After one and a half times the Keep Alive, the server closes the connection and publishes the will.",
		device: device{keepAlive: 2, expiry: 60},
		steps:  []step{fallSilent},
		wills:  at(3), known: []departure{silenceLate},
	},
	{
		name: "retained will", rule: "MQTT-3.1.2-15",
		why:    "If Will Retain is set, the server keeps the will as the retained message of its topic. Clients that subscribe later receive this message.",
		device: device{retain: true, expiry: 60},
		steps:  []step{connect, cut, awaitWill, lateSubscriber},
		wills:  at(0), facts: []string{foundOffline},
	},
	{
		name: "will that is not retained", rule: "MQTT-3.1.2-14",
		why:    "If Will Retain is not set, a client that subscribes later does not receive the will.",
		device: device{expiry: 60},
		steps:  []step{connect, cut, awaitWill, lateSubscriber},
		wills:  at(0), facts: []string{foundNothing},
	},
	{
		name: "all will properties", rule: "section 3.1.3.2",
		why:    "Subscribers receive all properties of the will, as with any other message: Content Type, Response Topic, Correlation Data, Payload Format Indicator, Message Expiry Interval, and User Properties in their order. A will cannot have a Topic Alias, because an alias is valid for one connection only.",
		device: device{expiry: 60, properties: true},
		steps:  []step{connect, cut, awaitWill, compareProperties},
		wills:  at(0), facts: []string{allProperties},
	},
	{
		name: "status convention", rule: "MQTT-3.1.2-15",
		why:    `The client publishes retained messages to the topic myclient/status. Its will is "offline", and after each CONNACK it publishes "online". A subscriber therefore knows the state at any time. Config.Presence.Status of mooring does this. It also publishes "offline" before a clean end.`,
		device: device{status: true, expiry: 60},
		steps: []step{connect, awaitMessages(1), lateSubscriber, cut, awaitMessages(2), lateSubscriber,
			back, awaitMessages(3), lateSubscriber, leave(0x00), awaitMessages(4), lateSubscriber, recordStatuses},
		facts:   []string{foundOnline, foundOffline, foundOnline, foundOffline, "a watcher sees online, offline, online, offline"},
		untimed: true,
	},
	{
		name: "MQTT 3.1.1 client that reconnects soon", rule: "MQTT-3.1.2-8 of MQTT 3.1.1",
		why:    "MQTT 3.1.1 has neither Will Delay Interval nor Session Expiry Interval. If a connection ends without a DISCONNECT, the server publishes the will at once. It does so even if it keeps the session (Clean Session 0) and the client reconnects soon.",
		device: device{v311: true},
		steps:  []step{connect, cut, pause(200 * time.Millisecond), back},
		wills:  at(0),
	},
	{
		name: "MQTT 3.1.1 client that sends DISCONNECT", rule: "MQTT-3.1.2-10 of MQTT 3.1.1",
		why:    "The DISCONNECT of MQTT 3.1.1 has no reason code, and it always deletes the will. A client that leaves with DISCONNECT cannot have its will published.",
		device: device{v311: true},
		steps:  []step{connect, leave(0x00)},
	},
}

// named returns the case with this name, or the only case whose name begins with it.
func named(name string) *scenario {
	var found *scenario
	for i := range cases {
		c := &cases[i]
		if c.name == name {
			return c
		}
		if len(name) > 0 && len(c.name) > len(name) && c.name[:len(name)] == name {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}
