package client

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// Config is everything that New needs to know. Servers is required, and
// ClientID wherever something is kept on disk; every other zero value is
// useful.
type Config struct {
	// Servers are mqtt://host:1883, mqtts://host:8883, ws://host:80/mqtt,
	// wss://host:443/mqtt or unix:///path; the ports are the defaults, and tcp, ssl
	// and tls are other names of mqtt and mqtts. A WebSocket server has a path of its
	// own, often /mqtt. They are tried in turn; after a connection that stood, the
	// same one first. Several should be one cluster: exactly once holds as far as
	// they share sessions, and what one of them refuses for good (reliability.OnConnack)
	// stops the client.
	Servers []string
	// ClientID names the session at the server, and must be the same after a
	// restart for the session to be found again. Default: a random one, if the
	// store is in memory; the session then ends with the client.
	// A store that was used under another one keeps its messages, and nothing of
	// its session; StrictSession stops there.
	ClientID string
	// AssignedClientID lets the server name the client, for servers that want to:
	// CONNECT goes without a Client Identifier, and the one that the first CONNACK
	// brings is kept for all later connections of this Client, see Client.ClientID.
	// It needs a store in memory, no ClientID, and a Publisher if Sequenced is set. If
	// that CONNACK is lost, the session it began is left to its SessionExpiry.
	AssignedClientID bool
	Username         string // default: none
	Password         []byte // default: none; up to 65,535 bytes
	// Credentials is asked for user and password on each attempt, instead of
	// Username and Password, so that those that change are picked up. Its context
	// ends with ConnectTimeout, and one call is made at a time. An error or a panic
	// is a failed attempt, with a *CredentialsError. With it 0x86 (Bad User Name or
	// Password), 0x87 (Not authorized) and 0x8C in CONNACK do not stop the client:
	// it tries again with backoff.
	Credentials func(ctx context.Context) (Credentials, error)
	// Auth authenticates by challenge and response. Default: Username and Password,
	// or nothing, are all that is said.
	Auth Authenticator
	// TLS is for mqtts and wss. Default: the system's roots. New makes a copy, with
	// TLS 1.2 as the least and a cache of sessions to resume, where it says nothing
	// of those; SessionTicketsDisabled does without, and so do GetClientCertificate
	// and VerifyPeerCertificate, which a resumed session would not ask.
	TLS *tls.Config
	// TLSFiles is for mqtts and wss, instead of TLS: files that are read again on
	// each attempt.
	TLSFiles *TLSFiles
	// Proxy leads to all servers but Unix sockets: http://user:password@host:3128,
	// https://host, socks5://user:password@host:1080, or ProxyFromEnvironment:
	// HTTPS_PROXY, else ALL_PROXY, except for what NO_PROXY names and for loopback, as
	// New finds them. Everything goes through HTTP CONNECT, ws as well, and the
	// proxy resolves the names. An https proxy is trusted by the same roots as the
	// servers and is shown no client certificate. Default: none, whatever the
	// environment says.
	Proxy string
	// Dial opens the transport instead of the built-in dialer: TLS, TLSFiles and
	// Proxy are then its own matter.
	Dial func(ctx context.Context, server *url.URL) (net.Conn, error)

	KeepAlive time.Duration // default 30 s; at most 65,535 s
	// SessionExpiry is how long the server keeps the session while we are away.
	// Exactly once holds as long as it does. The server may give less, or more: the
	// Connected event says what is in force. Default 24 h; NoSession for none;
	// at most 136 years, which MQTT takes as for ever.
	SessionExpiry time.Duration
	// CleanStart asks for a new session when the client starts; reconnecting
	// always resumes. A session that the server has and the store knows nothing
	// of is given up in any case, see ErrUnknownSession.
	CleanStart bool
	// Session says what to do when the server and the store do not know the same
	// session. Default ResumeSession.
	Session SessionMode
	// ReceiveMaximum is how many QoS 1 and 2 messages may be with us at a time,
	// received and not acknowledged. Default 1,024.
	ReceiveMaximum uint16
	// MaximumPacketSize is the largest packet we accept, in bytes. Default 16 MiB.
	// One of a single byte more is taken too: mosquitto counts so.
	MaximumPacketSize uint32
	// TopicAliasMaximum is how many topic aliases the server may use. Default 0.
	TopicAliasMaximum uint16
	// TopicAliases is how many topic aliases we use towards the server, as far as
	// it allows them: for the topics that were published to last, on each
	// connection anew. It saves the bytes of a topic that repeats, and keeps that
	// many topics in memory. Default 0: none. At most 65,535.
	TopicAliases int

	// OnTakeover says what to do when another client takes our session over.
	// Default TakeoverBackOff; with StrictSession the client stops in any case.
	OnTakeover TakeoverPolicy
	// IgnoreRedirects stays with Servers when a server names another one. Default:
	// it is followed, with the same scheme unless it names one with encryption, and
	// five times in a row at most.
	IgnoreRedirects bool

	// Will is published by the server when we are gone without a word.
	Will *Will
	// MarkerTopic is a topic of this client's alone, which WatchStatus, FetchRetained
	// and MirrorRetained publish to and subscribe to, to know when all retained
	// messages have come. Default "mooring/marker/" and the ClientID; NoMarker for
	// none, see SyncEnd.
	MarkerTopic string
	// Status keeps a retained topic that says online or offline; it uses the
	// will, so only one of both can be set.
	Status *Status

	// Dir is the folder of the durable store; it is made if it is missing, and one
	// client at a time has it open. Default: the store is in memory, and what is
	// pending ends with the client.
	Dir string
	// DirOptions are the options of the store in Dir, or in memory: among them its
	// limits, MaxAge, and MaxReceipts.
	DirOptions persistence.Options
	// Store is a store of your own instead of Dir. Close does not close it.
	Store persistence.Store
	// WhenFull says what Publish does when the store's MaxMessages or MaxBytes is
	// reached. Default Reject. A Store of your own drops its oldest messages by its
	// own options, see Client.Dropped.
	WhenFull FullPolicy
	// DeadLetters is how many refused messages are set aside, to be looked at with
	// Client.DeadLetters; for one more the oldest is given up. They end as
	// DeadLettered instead of Refused, whether the server refused them, cannot take
	// them, or ended PoisonAttempts connections over one. Default: none. At most
	// 100,000; a Store of your own has a limit of its own.
	DeadLetters int
	// OnSessionLost says what happens to messages that were sent and not
	// acknowledged when the server loses its session, where the message itself
	// does not say (Message.OnSessionLost): to those that an earlier process
	// accepted too, whatever it was configured for. Default Republish.
	OnSessionLost SessionLostPolicy
	// PoisonAttempts is how many connections in a row the server may end with a
	// DISCONNECT over the same message, before it is given up as Refused with a
	// *PoisonError. Default 5.
	PoisonAttempts int

	// Sequenced numbers each QoS 1 and 2 message, per topic and priority, so that
	// receivers can restore the order and see gaps. The numbers survive restarts
	// with Dir. Messages with Conflate are not numbered. There may be
	// DirOptions.MaxStreams topics (default 1,024); for one more Publish returns
	// persistence.ErrFull.
	Sequenced bool
	// Publisher is the name under which messages are numbered. Default ClientID.
	Publisher string

	// Dedupe drops received messages that were handled before, except retained
	// ones that a subscription brings: they are the state of their topic. Close
	// does not close it. Default: none.
	Dedupe dedupe.Cache
	// DedupeKey is what makes two messages the same; an empty key lets a message
	// pass. Default: the message ID, so messages without one pass. PayloadKey is
	// for publishers that send none.
	DedupeKey func(*Message) string
	// Ordering restores the order of numbered messages. Default: none.
	Ordering *Ordering

	// Lanes is how many messages are handled at the same time. Default 8.
	Lanes int
	// LaneKey is what keeps messages in one lane, and so in order. Default: the
	// topic. It cannot be set together with Ordering.
	LaneKey func(*Message) string
	// QoS0Queue is how many QoS 0 messages may wait in a lane; more are dropped
	// and counted. Default 1,024.
	QoS0Queue int
	// MaxInboundBytes is how many bytes of received messages may be with us at a
	// time, waiting for handlers, with them, or held for order. When they are, QoS 0
	// messages are dropped and counted, and at QoS 1 and 2 reading stops until
	// handlers have finished enough; if they have not after AckTimeout, the
	// connection ends with an InboundFullError and what was not taken comes again.
	// Default 64 MiB; at least one packet of MaximumPacketSize has room in any case.
	MaxInboundBytes int
	// HandlerAttempts is how often a message is given to a handler that returns
	// errors. Default 3. HandlerBackoff is the delay between.
	HandlerAttempts int
	HandlerBackoff  reliability.Backoff
	// Middleware wraps every handler.
	Middleware []Middleware

	// Backoff is the delay between attempts to connect, with full jitter. It
	// starts over after a connection that was up for StableAfter (default 10 s).
	// What is out of range here, in HandlerBackoff, Breaker and Ordering is a
	// *ConfigError.
	Backoff     reliability.Backoff
	StableAfter time.Duration
	// Breaker is the circuit breaker before the server.
	Breaker reliability.BreakerOptions

	ConnectTimeout time.Duration // from dialing to CONNACK; default 20 s
	WriteTimeout   time.Duration // of one write to the connection; default 10 s
	AckTimeout     time.Duration // without any acknowledgement while messages are in flight, then reconnect; default 30 s
	PublishTimeout time.Duration // of Delivery.Wait; default none
	CloseTimeout   time.Duration // for handlers and the goodbye in Close, in all; default 5 s

	Logger  *slog.Logger // default: none
	OnEvent func(Event)  // default: none; see Event
}

// NoSession as Config.SessionExpiry ends the session with each connection.
// Messages are then delivered at least once only.
const NoSession time.Duration = -1

// SessionLostPolicy says what to do with messages whose fate went with the
// server's session.
type SessionLostPolicy = persistence.SessionLostPolicy

const (
	// AsConfigured is Config.OnSessionLost for a Message, and Republish for that.
	AsConfigured = persistence.AsConfigured
	// Republish sends them again under the same message ID. They may arrive
	// twice, and a receiver that deduplicates by ID handles them once.
	Republish = persistence.Republish
	// FailInFlight gives them up, with ErrSessionLost as the outcome: never
	// twice, perhaps not at all. What was not sent is not concerned, unless the process
	// that accepted it was killed: up to some thousand messages are noted as sent before
	// they are, and those fail too; after damage to the store, all that wait. A session that another client takes over is lost.
	FailInFlight = persistence.FailInFlight
)

// Will is the Will Message, with all properties that MQTT 5 gives it. docs/will.md
// says when a server publishes it. Where the topic shall say what is so, use Status.
type Will struct {
	Topic           string
	Payload         []byte        // up to 65,535 bytes
	QoS             QoS           // default AtMostOnce
	Retain          bool          // so that who subscribes later learns of it
	Delay           time.Duration // Will Delay Interval, in whole seconds, rounded up; 0: at once
	Expiry          time.Duration // from its publication, in whole seconds, rounded up; 0: for ever
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	PayloadIsUTF8   bool
	UserProperties  []UserProperty
}

// Ordering restores the order of numbered messages, per publisher and topic.
//
// A publisher's epoch is the time at which its store was made. One whose clock
// was set back by then, as a device without a battery may be, looks older than
// before: its messages are Late, so do not combine such devices with DropLate.
type Ordering struct {
	ordering.Options
	// Restore is where streams go on after a restart: the last number handled
	// of each.
	Restore []Position
}

// Position is the last number handled of one publisher and topic.
type Position struct {
	Publisher, Topic string
	Epoch, Seq       uint64
}

func (c Config) withDefaults() Config {
	def(&c.KeepAlive, 30*time.Second)
	def(&c.SessionExpiry, 24*time.Hour)
	def(&c.ReceiveMaximum, 1024)
	def(&c.MaximumPacketSize, 16<<20)
	def(&c.Lanes, 8)
	def(&c.QoS0Queue, 1024)
	def(&c.MaxInboundBytes, 64<<20)
	def(&c.HandlerAttempts, 3)
	def(&c.PoisonAttempts, 5)
	def(&c.OnSessionLost, Republish)
	def(&c.ConnectTimeout, 20*time.Second)
	def(&c.WriteTimeout, 10*time.Second)
	def(&c.AckTimeout, 30*time.Second)
	def(&c.CloseTimeout, 5*time.Second)
	if c.ClientID == "" && !c.AssignedClientID {
		c.ClientID = "mooring-" + NewMessageID().String()
	}
	def(&c.Publisher, c.ClientID)
	if c.Status != nil {
		c.Status = c.Status.withDefaults()
		c.Will = c.Status.will(c.SessionExpiry)
	}
	if c.WhenFull == Reject {
		c.WhenFull = FullPolicy(slices.Index(storePolicies[:], c.DirOptions.WhenFull))
	}
	if c.DeadLetters == 0 {
		c.DeadLetters = max(c.DirOptions.MaxDeadLetters, 0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// storePolicies are what the store does under each FullPolicy. Block is ours.
var storePolicies = [...]persistence.FullPolicy{
	Reject: persistence.Reject, Block: persistence.Reject, DropOldest: persistence.DropOldest, DropNewest: persistence.DropNewest,
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
