package main

import "time"

// scenario is one case: who has the will, what happens to them, and what has to
// come of it by MQTT 5.
type scenario struct {
	name   string
	rule   string // the statement that decides, or the section where none has a number
	why    string // for a newcomer, and for docs/will.md
	device device
	steps  []step

	wills   []time.Duration // when they come, counted from the end of the connection
	untimed bool            // wills are among the facts
	facts   []string        // what else has to be seen, in this order
	known   []departure     // of mosquitto 2.0.11
}

// device is the client with the will.
type device struct {
	delay      uint32 // Will Delay Interval, seconds
	expiry     uint32 // Session Expiry Interval, seconds
	keepAlive  uint16 // seconds; 0 is the client's default
	retain     bool   // Will Retain
	properties bool   // the will has every property there is
	status     bool   // a client.Status instead of a will
	raw        bool   // says what mooring's client would not
	v311       bool   // raw, and speaks MQTT 3.1.1
}

// departure is a way in which mosquitto 2.0.11 is known to do other than MQTT 5
// says. One that does not happen any more is reported, and is no failure.
type departure struct {
	name   string
	noWill bool          // no will comes
	facts  []string      // these are seen instead; nil: as expected
	late   time.Duration // wills may be as late as this; such a one need not happen
}

func at(seconds ...time.Duration) (wills []time.Duration) {
	for _, s := range seconds {
		wills = append(wills, s*time.Second)
	}
	return wills
}

const (
	sawTakeover   = "0x8E told"
	noTakeover    = "0x8E not told"
	serverCloses  = "server closes"
	foundOffline  = `later: "offline"`
	foundOnline   = `later: "online"`
	foundNothing  = "later: nothing"
	allProperties = "all properties as given"
)

// What mosquitto 2.0.11 is known for.
var (
	cleanStartSilent  = departure{name: "Clean Start 1 within the delay: the will is not sent", noWill: true}
	takeoverLosesWill = departure{name: "takeover with Clean Start 0 of a session that goes on: a will without delay is not sent", noWill: true}
	takeoverSilent    = departure{name: "takeover: the old connection is closed without DISCONNECT 0x8E", facts: []string{noTakeover}}
	expirySilent      = departure{name: "Session Expiry Interval 0 and a will delay, at takeover or with Clean Start 0 behind a cut: the will is not sent", noWill: true}
	// It looks at delayed wills once a second, in whole seconds, and those with a
	// longer delay wait behind those with a shorter one.
	delaysLate = departure{name: "a delayed will comes up to 4 s late", late: 4 * time.Second}
	// It looks for clients that have fallen silent every six seconds.
	silenceLate = departure{name: "the end of the keep alive is noticed up to 8 s late", late: 8 * time.Second}
)

var cases = []scenario{
	{
		name: "no delay", rule: "MQTT-3.1.2-8",
		why:    "The connection ends without a DISCONNECT, and the will has no delay: it is published as soon as the server knows that the connection is gone. A link that is gone for a moment is enough to be called dead; that is what the Will Delay Interval is for.",
		device: device{expiry: 60},
		steps:  []step{connect, cut},
		wills:  at(0),
	},
	{
		name: "delay passed", rule: "MQTT-3.1.2-8",
		why:    "The server holds the will back for the Will Delay Interval. Nobody comes back, so it is published then.",
		device: device{delay: 2, expiry: 60},
		steps:  []step{connect, cut},
		wills:  at(2), known: []departure{delaysLate},
	},
	{
		name: "reconnect with Clean Start 0 within the delay", rule: "MQTT-3.1.3-9",
		why:    "The client comes back to its session before the delay is over: the will must not be sent. The watchers never hear of a link that was gone for a moment. This is what mooring's client does by itself after each loss.",
		device: device{delay: 2, expiry: 60},
		steps:  []step{connect, cut, pause(time.Second), back},
	},
	{
		name: "reconnect with Clean Start 1 within the delay", rule: "MQTT-3.1.2-8",
		why:    "Clean Start 1 discards the session [MQTT-3.1.2-4], and the will cannot outlive it: it is published at the reconnect, although the delay is not over. The subscribers hear of a death while the client is alive again; a birth message sets that right.",
		device: device{delay: 3, expiry: 60},
		steps:  []step{connect, cut, pause(time.Second), successor(true)},
		wills:  at(1), known: []departure{cleanStartSilent},
	},
	{
		name: "session expiry before the delay", rule: "MQTT-3.1.2-8",
		why:    "Whatever comes first publishes the will: the end of the delay, or the end of the session. A delay beyond the Session Expiry Interval is cut short by it.",
		device: device{delay: 30, expiry: 1},
		steps:  []step{connect, cut},
		wills:  at(1), known: []departure{delaysLate},
	},
	{
		name: "takeover 0x8E, no delay", rule: "MQTT-3.1.4-3",
		why:    "A second connection with the same Client Identifier ends the first, which is told DISCONNECT 0x8E. That is an unexpected end, so a will without delay is published. Poor links make this happen to a single client: it comes back before the server knows that it was gone.",
		device: device{expiry: 60},
		steps:  []step{connect, takeover(false)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, takeoverLosesWill},
	},
	{
		name: "takeover 0x8E, delay, Clean Start 0", rule: "MQTT-3.1.3-9",
		why:    "The same with a delay: the session goes on with the new connection before the delay is over, so the will is called off.",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, takeover(false)},
		facts:  []string{sawTakeover}, known: []departure{takeoverSilent},
	},
	{
		name: "takeover 0x8E, delay, Clean Start 1", rule: "MQTT-3.1.2-8",
		why:    "The new connection discards the session of the old one, and its end publishes the will without waiting for the delay.",
		device: device{delay: 3, expiry: 60},
		steps:  []step{connect, takeover(true)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, cleanStartSilent},
	},
	{
		name: "session expiry 0 with a delay, takeover with Clean Start 0", rule: "MQTT-3.1.2-8",
		why:    "With Session Expiry Interval 0 the session ends with its connection, so there is nothing for Clean Start 0 to go on with: the server makes a new session, and the will of the old one is published at once. A will delay needs a session that lives at least as long.",
		device: device{delay: 2},
		steps:  []step{connect, takeover(false)},
		wills:  at(0), facts: []string{sawTakeover}, known: []departure{takeoverSilent, expirySilent},
	},
	{
		name: "session expiry 0 with a delay, cut, Clean Start 0", rule: "MQTT-3.1.2-8",
		why:    "The same when the old connection is gone already: the will is published when it ends, and coming back within the delay does not call it off.",
		device: device{delay: 2},
		steps:  []step{connect, cut, pause(500 * time.Millisecond), successor(false)},
		wills:  at(0), known: []departure{expirySilent},
	},
	{
		name: "session-expiry notification", rule: "MQTT-3.1.2-8",
		why:    "A delay beyond the Session Expiry Interval makes the will the notice that the session has ended, rather than the connection. Even a client that leaves on purpose can ask for it, with DISCONNECT 0x04.",
		device: device{delay: 3600, expiry: 2},
		steps:  []step{connect, leave(0x04)},
		wills:  at(2), known: []departure{delaysLate},
	},
	{
		name: "DISCONNECT 0x00", rule: "MQTT-3.14.4-3",
		why:    "The one way to leave without a will: DISCONNECT with 0x00, Normal disconnection. The server forgets it.",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, leave(0x00)},
	},
	{
		name: "DISCONNECT 0x04", rule: "MQTT-3.1.2-8",
		why:    "Disconnect with Will Message: the client leaves on purpose and wants its will published, by the same rules as after a cut (section 3.14.2.1).",
		device: device{delay: 1, expiry: 60},
		steps:  []step{connect, leave(0x04)},
		wills:  at(1), known: []departure{delaysLate},
	},
	{
		name: "protocol error", rule: "MQTT-4.13.1-1",
		why:    "The client sends a PUBLISH with an empty topic and a Topic Alias that stands for nothing. The server closes the connection, having received no DISCONNECT 0x00, so the will is published after its delay.",
		device: device{raw: true, delay: 2, expiry: 300},
		steps:  []step{connect, violate},
		wills:  at(2), facts: []string{serverCloses}, known: []departure{delaysLate},
	},
	{
		name: "keep alive timeout", rule: "MQTT-3.1.2-22",
		why:    "The link carries nothing any more and nobody closes it: cables are pulled without a word. After one and a half times the Keep Alive the server takes the connection for dead.",
		device: device{keepAlive: 2, expiry: 60},
		steps:  []step{fallSilent},
		wills:  at(3), known: []departure{silenceLate},
	},
	{
		name: "retained", rule: "MQTT-3.1.2-15",
		why:    "With Will Retain the server keeps the will as the retained message of its topic, for those who were not there when it was published.",
		device: device{retain: true, expiry: 60},
		steps:  []step{connect, cut, awaitWill, lateSubscriber},
		wills:  at(0), facts: []string{foundOffline},
	},
	{
		name: "not retained", rule: "MQTT-3.1.2-14",
		why:    "Without Will Retain, whoever subscribes a moment too late never learns of it.",
		device: device{expiry: 60},
		steps:  []step{connect, cut, awaitWill, lateSubscriber},
		wills:  at(0), facts: []string{foundNothing},
	},
	{
		name: "all will properties", rule: "section 3.1.3.2",
		why:    "Content Type, Response Topic, Correlation Data, Payload Format Indicator, Message Expiry Interval and User Properties in their order arrive with the will as with any other message. A Topic Alias it cannot have: there is no connection left that it could stand on.",
		device: device{expiry: 60, properties: true},
		steps:  []step{connect, cut, awaitWill, compareProperties},
		wills:  at(0), facts: []string{allProperties},
	},
	{
		name: "status convention", rule: "MQTT-3.1.2-15",
		why:    `The client keeps the retained topic myclient/status: "offline" is its will, and after each CONNACK it publishes "online". Whoever subscribes, whenever, knows. In mooring this is Config.Presence.Status, which also says "offline" before a clean end.`,
		device: device{status: true, expiry: 60},
		steps: []step{connect, awaitMessages(1), lateSubscriber, cut, awaitMessages(2), lateSubscriber,
			back, awaitMessages(3), lateSubscriber, leave(0x00), awaitMessages(4), lateSubscriber, story},
		facts:   []string{foundOnline, foundOffline, foundOnline, foundOffline, "watched: online, offline, online, offline"},
		untimed: true,
	},
	{
		name: "MQTT 3.1.1, cut and soon back", rule: "MQTT-3.1.2-8 of MQTT 3.1.1",
		why:    "MQTT 3.1.1 has neither Will Delay Interval nor Session Expiry Interval: without a DISCONNECT the will is published at once. That the session is kept (Clean Session 0) and its client is back soon changes nothing.",
		device: device{v311: true},
		steps:  []step{connect, cut, pause(200 * time.Millisecond), back},
		wills:  at(0),
	},
	{
		name: "MQTT 3.1.1, DISCONNECT", rule: "MQTT-3.1.2-10 of MQTT 3.1.1",
		why:    "The DISCONNECT of MQTT 3.1.1 has no reason code: it always discards the will, so leaving on purpose and having it published cannot be said.",
		device: device{v311: true},
		steps:  []step{connect, leave(0x00)},
	},
}

// named is the case with a name, or the only one whose name begins so.
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
