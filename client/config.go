package client

import (
	"cmp"
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

// Config describes a client. Servers is required. A client that must lose
// nothing across restarts also sets ClientID and Dir. Every other zero value
// is a safe default, here and in the groups.
type Config struct {
	// Servers lists the addresses of the server: mqtt://host:1883, mqtts://host:8883,
	// ws://host:80/mqtt, wss://host:443/mqtt or unix:///path. The ports shown are the defaults;
	// tcp, ssl and tls are other names of mqtt and mqtts. New refuses what would be ignored. Servers are
	// tried in turn, beginning with the one whose connection was up for some time. Several servers
	// should be nodes of one cluster: delivery is exactly once only if they share sessions.
	Servers []string
	// ClientID names the session at the server. It must stay the same across
	// restarts. Default: a random one if the store is in memory; the session then
	// ends with the client. A store that was used under another ClientID keeps its
	// messages and forgets its session; with StrictSession the client stops instead.
	ClientID string
	// Dir is the folder of the durable store. It is created if it is missing, and one client at a
	// time can open it. Default: the store is in memory, and pending messages end with the client.
	Dir string
	// TLS configures mqtts and wss. Default: the system's root certificates. New makes a copy, in
	// which an unset MinVersion becomes TLS 1.2 and an unset ClientSessionCache becomes a cache.
	// SessionTicketsDisabled, GetClientCertificate and VerifyPeerCertificate disable that cache,
	// since a resumed session calls neither of the last two.
	TLS *tls.Config
	// Logger receives a line at level Warn for everything that is refused, deferred, dropped or
	// given up, or that panics: the first of a kind at once, and those of the minute after it as one
	// line, "N more"; docs/doctor.md lists the kinds. Connections are logged at Info, and why the
	// client stopped at Error. Lines never have payloads or credentials. The handler may call the
	// client. Default: slog.Default, as it is when the line is written; to log nothing, use
	// slog.New(slog.DiscardHandler).
	Logger  *slog.Logger
	OnEvent func(Event) // receives events, see Event; default: none

	Connection ConnectionConfig // how to reach the server, and how long to wait for it
	Session    SessionConfig    // the session that the server keeps for this client
	Store      StoreConfig      // limits and policies of the store
	Publishing PublishingConfig // outbound messages
	Receiving  ReceivingConfig  // inbound messages and their handlers
	Presence   PresenceConfig   // the will, the status topic and retained messages
}

// ConnectionConfig describes how a client connects.
type ConnectionConfig struct {
	Username string // default: none
	Password []byte // default: none; up to 65,535 bytes
	// Credentials returns user name and password for each attempt to connect, in place of Username
	// and Password. One call is made at a time; its context ends after ConnectTimeout. An error or
	// a panic fails the attempt with a *CredentialsError. With Credentials set, the CONNACK codes
	// 0x86, 0x87 and 0x8C do not stop the client: it tries again with backoff.
	Credentials func(ctx context.Context) (Credentials, error)
	Auth        Authenticator // by challenge and response (section 4.12 of MQTT 5); default: none
	TLSFiles    *TLSFiles     // files that are read again for each attempt, in place of Config.TLS
	// WebSocketRequest changes the request that opens a WebSocket (ws, wss), on each attempt to connect:
	// headers such as Origin and Authorization, and the URL, for example with a signature that expires.
	// One call is made at a time; its context ends after ConnectTimeout. An error or a panic fails the
	// attempt with a *WebSocketError. Default: the server's URL, without Origin.
	WebSocketRequest func(ctx context.Context, r *WebSocketRequest) error
	// UserProperties are sent in each CONNECT, in this order. Their meaning is the server's. Default: none.
	UserProperties []UserProperty
	// Proxy is the proxy for all servers except Unix sockets: http://user:password@host:3128,
	// https://host, socks5://user:password@host:1080, or ProxyFromEnvironment (HTTPS_PROXY, else
	// ALL_PROXY, except hosts in NO_PROXY and loopback, as read by New). All traffic uses HTTP
	// CONNECT, including ws, and the proxy resolves names. An https proxy is verified with the same
	// roots as the servers and gets no client certificate. Default: none, whatever the environment
	// says.
	Proxy string
	// Dial opens the transport in place of the built-in dialer, which then
	// ignores Config.TLS, TLSFiles, WebSocketRequest and Proxy.
	Dial func(ctx context.Context, server *url.URL) (net.Conn, error)

	// KeepAlive is the longest time without a packet from the client, in whole seconds, rounded up:
	// then it sends a PINGREQ, and reconnects unless the server answers within half of it. Default
	// 30 s; at most 65,535 s; NoKeepAlive for none. The server may choose another value, which
	// Connected reports.
	KeepAlive time.Duration
	// MaximumPacketSize is the largest packet that this client accepts, in bytes.
	// Default 16 MiB. One byte more is accepted too, since mosquitto counts so. The server does not
	// deliver larger ones, and adds 5 bytes for each Subscription Identifier.
	MaximumPacketSize uint32
	// IgnoreRedirects keeps to Servers when a server names another one. Default: a redirect is
	// followed, with the same scheme or an encrypted one, at most five times in a row.
	IgnoreRedirects bool

	// StopOn selects the refusals that end the client. Default: those of a CONNECT that no server
	// has accepted before, see StopPolicy.
	StopOn StopPolicy

	// Backoff is the delay between attempts to connect, with full jitter. It
	// starts over after a connection that was up for StableAfter (default 10 s).
	Backoff     reliability.Backoff
	StableAfter time.Duration

	ConnectTimeout time.Duration // from dialing to CONNACK; default 20 s
	WriteTimeout   time.Duration // of one write to the connection; default 10 s
	AckTimeout     time.Duration // without an acknowledgement while messages are in flight; then the connection ends; default 30 s
	CloseTimeout   time.Duration // of Close: handlers, acknowledgements, offline status and DISCONNECT; default 5 s
}

// SessionConfig describes the session that the server keeps.
type SessionConfig struct {
	// Expiry is how long the server keeps the session while this client is
	// disconnected, and so for how long delivery is exactly once. The server may
	// choose another value, which Connected reports. Default 24 h; NoSession for
	// none; at most 136 years, which MQTT defines as unlimited.
	Expiry time.Duration
	// CleanStart begins a new session when the client starts, and discards the messages that wait in
	// the one that the server has. Reconnecting always resumes. Without CleanStart, a session that the
	// server has and the store does not know is resumed too, see SessionAdopted.
	CleanStart bool
	Mode       SessionMode    // when server and store do not know the same session; default ResumeSession
	OnTakeover TakeoverPolicy // when another client takes over the session; default TakeoverBackOff
	// OnLost selects what happens to messages in flight when the server loses the
	// session, including messages that an earlier process accepted.
	// Message.OnSessionLost overrides it. Default Republish.
	OnLost  SessionLostPolicy
	OnStuck StuckPolicy // when only a new session makes the server accept messages; default StuckRenewIfUnsubscribed
	// AssignedClientID lets the server choose the client identifier: the one in the first CONNACK
	// is used for all later connections of this Client, see Client.ClientID. It requires a store in
	// memory, an empty ClientID, and a Publishing.Publisher if Sequenced is set. If that CONNACK is
	// lost, the server keeps the session it began until its Expiry.
	AssignedClientID bool
}

// StoreConfig describes the store of accepted messages.
type StoreConfig struct {
	Options  persistence.Options // of the store in Config.Dir, or in memory
	Custom   persistence.Store   // in place of Config.Dir; Close does not close it
	WhenFull FullPolicy          // default Reject; a Custom store drops its oldest messages by its own options
	// DeadLetters is how many refused messages are kept, to be read with Client.DeadLetters; beyond
	// that the oldest is discarded. Messages that would end as Refused then end as DeadLettered.
	// Default: none. At most 100,000; a Custom store has its own limit.
	DeadLetters int
}

// PublishingConfig describes outbound messages.
type PublishingConfig struct {
	// Sequenced numbers the QoS 1 and 2 messages without Conflate, per topic and priority, so that
	// receivers can restore the order and detect gaps. With Config.Dir the numbers survive restarts. After
	// the store's MaxStreams (default 1,024) topics, others have none and are reported, MessageUnnumbered.
	Sequenced        bool
	RejectUnnumbered bool     // Publish returns persistence.ErrFull for such messages instead
	Unsequenced      []string // topic filters of messages that are not numbered, such as reply topics
	Publisher        string   // the name under which messages are numbered; default ClientID
	// TopicAliases is how many topic aliases the client uses, as far as the server allows, for the
	// topics published to last, which take 16 MiB at most. Default 0: none. At most 65,535.
	TopicAliases int
	// Refusals says what becomes of messages that the server refuses (PUBACK or PUBREC with a reason
	// code of 0x80 or above): the first rule that matches applies. Default: a message ends as Refused
	// only if the code is about the message itself, so that it cannot succeed later (0x81, 0x82, 0x90,
	// 0x95, 0x99 and the like). All others, 0x87 included, are deferred: they stay pending and are
	// sent again after RetryBackoff, until they expire. Later messages of the same topic and priority
	// wait for them, other topics go on.
	Refusals []RefusalRule
	// RetryBackoff is the delay before a deferred message is sent again, with full jitter. Default:
	// 250 ms, doubled each time, up to a minute.
	RetryBackoff reliability.Backoff
	// PoisonAttempts is how many connections in a row may end over the same message, before it is
	// deferred: the others are sent first, and then it is sent alone, with RetryBackoff. After a
	// DISCONNECT with a code that is about the message itself it ends as Refused with a *PoisonError
	// instead; Refusals can change both. If the server gives no code, others of its topic wait for it
	// until it has ended three more connections. Default 5.
	PoisonAttempts int
	// Breaker is the circuit breaker for the server. The refusals of one topic count as one failure,
	// until the server has accepted a message: FailureThreshold is how many topics are refused in a row.
	Breaker     reliability.BreakerOptions
	WaitTimeout time.Duration // of Delivery.Wait; default: no limit
}

// ReceivingConfig describes inbound messages and their handlers.
type ReceivingConfig struct {
	Concurrency int // how many messages are handled at the same time; default 8
	// OrderingKey returns the key of a message. Messages with the same key are handled one after
	// the other, in order of receipt. Default: the topic. It cannot be set together with Ordering.
	OrderingKey func(*Message) string
	Middleware  []Middleware // wraps every handler; the first one is called first
	// HandlerAttempts is how often a message is given to a handler that returns errors, before the
	// message is set aside, see Handler. Default: until it is accepted. HandlerBackoff is the delay
	// between attempts, with full jitter. Default: 100 ms, doubled each time, up to 30 s.
	HandlerAttempts int
	HandlerBackoff  reliability.Backoff
	// HandleExpired calls handlers for messages whose Expiry has passed too. Default: such a message is
	// acknowledged, counted and reported as ReceivedExpired.
	HandleExpired bool
	// UnhandledGrace is how long QoS 1 and 2 messages without a handler wait for one, from the first
	// connection on; with a handler too, if they are for a subscription that only an earlier process has
	// declared. It ends early when half of ReceiveMaximum messages are unacknowledged. Then messages without a
	// handler are set aside until one is declared; without Config.Dir they are refused. Default 30 s; or NoGrace.
	UnhandledGrace time.Duration
	SetAside       SetAsideConfig // limits of the list of set-aside messages

	// Dedupe suppresses messages that were handled before, except retained
	// messages that a new subscription brings: those are the state of their topic.
	// The client claims each message under its ClientID before it is handled. While
	// another client holds the claim, the message and those after it in the same
	// queue wait. Close gives claims back and does not close the cache. Default: none.
	Dedupe dedupe.Cache
	// DedupeKey returns what makes two messages the same; a message with an empty
	// key is always handled. Default: the message ID, so messages without one are
	// always handled. PayloadKey is for publishers that send no ID.
	DedupeKey func(*Message) string
	Ordering  *Ordering // restores the order of numbered messages; default: none

	ReceiveMaximum    uint16 // QoS 1 and 2 messages received and not yet acknowledged; default 1,024
	TopicAliasMaximum uint16 // topic aliases that the server may use; default 0
	QoS0QueueSize     int    // QoS 0 messages that wait for each worker, more are dropped and counted; default 1,024
	// MaxBufferedBytes limits the bytes of received messages that wait for a handler, are being
	// handled, or are held for order. At the limit, QoS 0 messages are dropped and counted, and for
	// QoS 1 and 2 reading stops until handlers free space. If they free none within AckTimeout, the
	// connection ends with an *InboundFullError, and the messages are redelivered. Default 64 MiB;
	// one packet of MaximumPacketSize always fits.
	MaxBufferedBytes int
}

// PresenceConfig describes what others can learn about this client, and how it
// reads retained messages.
type PresenceConfig struct {
	Will   *Will   // published by the server when the connection ends without a DISCONNECT; default: none
	Status *Status // retained online and offline messages on a topic, in place of Will; default: none
	// MarkerTopic is a topic that only this client uses. WatchStatus, FetchRetained and
	// MirrorRetained publish and subscribe to it, to learn when all retained messages have been
	// received. Default "mooring/marker/" and the ClientID; NoMarker for none, see SyncEnd.
	MarkerTopic string
}

// Ordering restores the order of numbered messages, per publisher and topic. Messages of Shared
// Subscriptions are left out: they are handled in order of receipt, and without reports of gaps.
//
// Numbers order, message IDs identify. A message whose number is known is a duplicate if its ID is
// known too. With another ID it is handled, with Message.OutOfOrder, and reported as [NumberReused].
// Without an ID it is dropped and reported as [NumberRepeated]. With ReceivingConfig.Dedupe a message
// that has a key is no duplicate once the cache has let it pass. Otherwise the last MaxIDs IDs of each
// publisher and topic are compared; default 1,024, or ReceiveMaximum if that is more. All workers
// share MaxIDBytes and MaxStreamBytes.
//
// A publisher's epoch is the time at which its store was created, or renewed, see
// [StoreRenewed]. If the store of a device is lost and its clock was never set, or was set
// back, the device may appear to be older than before and its messages count as late. So do
// the messages of a store that is used beside a copy of it under the same Publisher. Do not
// combine such devices with DropLate, which drops them, and reports each as [LateDropped].
type Ordering struct {
	ordering.Options
	Restore []Position // the last number handled of each stream, to continue after a restart
}

// Position is the last number handled of one publisher and topic.
type Position struct {
	Publisher, Topic string
	Epoch, Seq       uint64
	// IDs of the messages handled last, the newest last, if there is no Dedupe in a file: a copy
	// of one of them is a duplicate. Without them, a message that is redelivered after the restart is
	// handled again, with Message.OutOfOrder.
	IDs []MessageID
}

func (c Config) withDefaults() Config {
	conn, in := &c.Connection, &c.Receiving
	conn.KeepAlive = cmp.Or(conn.KeepAlive, 30*time.Second)
	conn.MaximumPacketSize = cmp.Or(conn.MaximumPacketSize, 16<<20)
	conn.ConnectTimeout = cmp.Or(conn.ConnectTimeout, 20*time.Second)
	conn.WriteTimeout = cmp.Or(conn.WriteTimeout, 10*time.Second)
	conn.AckTimeout = cmp.Or(conn.AckTimeout, 30*time.Second)
	conn.CloseTimeout = cmp.Or(conn.CloseTimeout, 5*time.Second)
	c.Session.Expiry = cmp.Or(c.Session.Expiry, 24*time.Hour)
	c.Session.OnLost = cmp.Or(c.Session.OnLost, Republish)
	in.ReceiveMaximum = cmp.Or(in.ReceiveMaximum, 1024)
	in.Concurrency = cmp.Or(in.Concurrency, 8)
	in.QoS0QueueSize = cmp.Or(in.QoS0QueueSize, 1024)
	in.MaxBufferedBytes = cmp.Or(in.MaxBufferedBytes, 64<<20)
	in.HandlerBackoff.Max = cmp.Or(in.HandlerBackoff.Max, max(30*time.Second, in.HandlerBackoff.Min))
	in.UnhandledGrace = cmp.Or(in.UnhandledGrace, 30*time.Second)
	in.SetAside.MaxMessages = cmp.Or(in.SetAside.MaxMessages, 10_000)
	in.SetAside.MaxBytes = cmp.Or(in.SetAside.MaxBytes, 64<<20)
	retry := &c.Publishing.RetryBackoff
	retry.Min, retry.Max = cmp.Or(retry.Min, 250*time.Millisecond), cmp.Or(retry.Max, time.Minute)
	c.Publishing.PoisonAttempts = cmp.Or(c.Publishing.PoisonAttempts, 5)
	if c.ClientID == "" && !c.Session.AssignedClientID {
		c.ClientID = "mooring-" + NewMessageID().String()
	}
	c.Publishing.Publisher = cmp.Or(c.Publishing.Publisher, c.ClientID)
	if c.Presence.Status != nil {
		c.Presence.Status = c.Presence.Status.withDefaults()
		c.Presence.Will = c.Presence.Status.will(c.Session.Expiry)
	}
	if c.Store.WhenFull == Reject {
		c.Store.WhenFull = FullPolicy(slices.Index(storePolicies[:], c.Store.Options.Limits.WhenFull))
	}
	if c.Store.DeadLetters == 0 {
		c.Store.DeadLetters = max(c.Store.Options.Retention.MaxDeadLetters, 0)
	}
	return c
}

// FullPolicy is what Publish does when MaxMessages or MaxBytes of the store is reached.
// Other limits always refuse. Messages that may have been sent are never dropped, nor
// are messages of a higher priority than the new one.
type FullPolicy uint8

const (
	Reject     FullPolicy = iota // Publish returns persistence.ErrFull
	Block                        // Publish waits for room, until its context ends or the client is closed
	DropOldest                   // the store drops the oldest message of the lowest priority; if it has none, as Reject
	DropNewest                   // Publish returns a Delivery that has ended as Dropped, and no error
)
