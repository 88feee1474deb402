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

// Config configures a client. Only Servers is required. A client that must not lose messages across
// restarts also sets ClientID and Dir. Every zero value is a safe default, also in nested structs.
type Config struct {
	// Servers lists the server's addresses: mqtt://host:1883, mqtts://host:8883, ws://host:80/mqtt,
	// wss://host:443/mqtt or unix:///path, with these default ports. Other names of mqtt
	// and mqtts are tcp, ssl and tls. New rejects URL parts that it would not use. The client tries
	// the servers in turn, starting with the last one that kept a connection up for StableAfter.
	// Several servers should be nodes of one cluster: delivery is exactly once only if they share
	// sessions. Required.
	Servers []string
	// ClientID identifies the session at the server. Keep it the same across restarts. Default: a
	// random one if the store is in memory; the session then ends with the client. If the store was
	// used under another ClientID, it keeps its messages and discards its session; StrictSession
	// stops the client.
	ClientID string
	// Dir is the folder of the durable store. It is created if missing. One client at a time can
	// open it. Default: the store is in memory, and pending messages end with the client.
	Dir string
	// TLS configures mqtts and wss. Default: the system's root certificates. New copies it and sets
	// MinVersion to TLS 1.2 and ClientSessionCache to a new cache if they are unset. No cache is
	// set with SessionTicketsDisabled, GetClientCertificate or VerifyPeerCertificate, because a
	// resumed TLS session does not call the last two.
	TLS *tls.Config
	// Logger receives a line at level Warn for each refusal, deferral, drop, failure and panic. The
	// first of a kind is logged at once, those of the following minute as one line, "N more". See
	// docs/guides/operating.md. Connections are logged at Info, the reason for a stop at Error.
	// Lines never contain payloads or credentials. The log handler may call the client, but must not
	// wait for it, as Subscribe, Drain and Publish with Block do. Default: the slog.Default of that
	// moment; slog.New(slog.DiscardHandler) logs nothing.
	Logger  *slog.Logger
	OnEvent func(Event) // receives events, see Event; default: none

	Connection ConnectionConfig // how to connect, and timeouts
	Session    SessionConfig    // the session at the server
	Store      StoreConfig      // limits and policies of the store
	Publishing PublishingConfig // outbound messages
	Receiving  ReceivingConfig  // inbound messages and their handlers
	Presence   PresenceConfig   // the will, the status topic and retained messages
}

// ConnectionConfig configures how a client connects.
type ConnectionConfig struct {
	Username string // sent in CONNECT; default: none
	Password []byte // sent in CONNECT, up to 65,535 bytes; default: none
	// Credentials returns the user name and password for each attempt to connect. It replaces
	// Username and Password. Calls do not overlap; the context ends after ConnectTimeout. An error
	// or a panic fails the attempt with a *CredentialsError. With Credentials set, the CONNACK
	// codes 0x86, 0x87 and 0x8C do not stop the client: it retries with backoff. Default: none.
	Credentials func(ctx context.Context) (Credentials, error)
	Auth        Authenticator // enhanced authentication (section 4.12 of MQTT 5); default: none
	TLSFiles    *TLSFiles     // read again for each attempt, in place of Config.TLS; default: none
	// WebSocketRequest is called for each attempt to open a WebSocket (ws, wss). It can change the
	// headers of the HTTP request, such as Origin and Authorization, and its URL, for example to
	// add a signature that expires. Calls do not overlap; the context ends after ConnectTimeout. An
	// error or a panic fails the attempt with a *WebSocketError. Default: the server's URL, without
	// Origin.
	WebSocketRequest func(ctx context.Context, r *WebSocketRequest) error
	// UserProperties are sent in each CONNECT, in this order. The server defines their meaning.
	// Default: none.
	UserProperties []UserProperty
	// Proxy is the proxy for all servers except Unix sockets: http://user:password@host:3128,
	// https://host, socks5://user:password@host:1080 or ProxyFromEnvironment. ProxyFromEnvironment
	// uses HTTPS_PROXY, else ALL_PROXY, as New reads them, except for hosts in NO_PROXY and
	// loopback hosts. HTTP proxies get CONNECT requests, also for ws, and the proxy resolves host
	// names. An https proxy is verified with the same roots as the servers and gets no client
	// certificate. Default: no proxy.
	Proxy string
	// Dial opens the transport in place of the built-in dialer. Config.TLS, TLSFiles,
	// WebSocketRequest and Proxy are then ignored. Default: the built-in dialer.
	Dial func(ctx context.Context, server *url.URL) (net.Conn, error)

	// KeepAlive is the longest time without a packet from the client, rounded up to seconds. The
	// client then sends a PINGREQ, and reconnects if no answer arrives within half of KeepAlive.
	// Default 30 s; at most 65,535 s; NoKeepAlive disables it. The server may override it, see
	// Connected.KeepAlive.
	KeepAlive time.Duration
	// MaximumPacketSize is the largest packet that the client accepts, in bytes. Default 16 MiB.
	// The server does not deliver larger ones. Each Subscription Identifier adds 5 bytes to a
	// packet. One byte more is accepted, because mosquitto allows it.
	MaximumPacketSize uint32
	// IgnoreRedirects ignores a server that refers to another one. By default the client follows up
	// to five redirects in a row, to the same scheme or an encrypted one.
	IgnoreRedirects bool

	// StopOn selects the refusals that stop the client. Default: refusals of the configuration
	// before any server has accepted the client, see StopPolicy.
	StopOn StopPolicy

	// Backoff is the delay between attempts to connect, with full jitter. It is reset by a
	// connection that was up for StableAfter. Default: 100 ms, doubled each time, up to 1 minute.
	Backoff     reliability.Backoff
	StableAfter time.Duration // how long a connection must be up to reset Backoff; default 10 s

	ConnectTimeout time.Duration // limit of an attempt, from dialing to CONNACK; default 20 s
	WriteTimeout   time.Duration // limit of one write to the connection; default 10 s
	AckTimeout     time.Duration // the connection ends if messages are in flight and none is acknowledged for this time; default 30 s
	CloseTimeout   time.Duration // limit of Close: for handlers, acknowledgements, offline status and DISCONNECT; default 5 s
}

// SessionConfig configures the session that the server keeps.
type SessionConfig struct {
	// Expiry is how long the server keeps the session while the client is disconnected. Delivery is
	// exactly once only during that time. Default 24 h; NoSession for none; at most 136 years,
	// which MQTT defines as unlimited. The server may override it, see Connected.SessionExpiry.
	Expiry time.Duration
	// CleanStart begins a new session when the client starts. The server discards the old session
	// and its waiting messages. Reconnecting always resumes. Without CleanStart, the client also
	// resumes a session that the store does not know, see SessionAdopted.
	CleanStart bool
	Mode       SessionMode    // what to do when server and store know different sessions; default ResumeSession
	OnTakeover TakeoverPolicy // what to do when another client takes over the session; default TakeoverBackOff
	// OnLost selects what happens to messages in flight when the server loses the session,
	// including messages that an earlier process accepted. Message.OnSessionLost overrides it.
	// Default Republish.
	OnLost  SessionLostPolicy
	OnStuck StuckPolicy // what to do when only a new session makes the server accept messages; default StuckRenewIfUnsubscribed
	// AssignedClientID lets the server choose the client identifier. The client uses the one in the
	// first CONNACK for all later connections, see Client.ClientID. It requires a store in memory,
	// an empty ClientID and, with Sequenced, a Publishing.Publisher. If the first CONNACK is lost,
	// the server keeps an unused session until Expiry.
	AssignedClientID bool
}

// StoreConfig configures the store of accepted messages.
type StoreConfig struct {
	Options persistence.Options // options of the store in Config.Dir, or in memory
	Custom  persistence.Store   // in place of Config.Dir; Close does not close it; default: none
	// WhenFull selects what Publish does at a limit of the store. Default: Options.Limits.WhenFull,
	// which is Reject. A Custom store drops its oldest messages by its own options.
	WhenFull FullPolicy
	// DeadLetters is how many refused messages are kept for Client.DeadLetters. Beyond that the
	// oldest is discarded. Refused messages then end as DeadLettered. Default:
	// Options.Retention.MaxDeadLetters if that is set, else 0. At most 100,000. A Custom store has
	// its own limit.
	DeadLetters int
}

// PublishingConfig configures outbound messages.
type PublishingConfig struct {
	// Sequenced numbers QoS 1 and 2 messages without Conflate, per topic and priority. Receivers
	// use the numbers to restore the order and to detect gaps. With Config.Dir, numbers survive
	// restarts. The store numbers at most MaxStreams (default 1,024) pairs of topic and priority;
	// messages beyond that have no number, see MessageUnnumbered.
	Sequenced        bool
	RejectUnnumbered bool     // Publish returns persistence.ErrFull for messages beyond MaxStreams
	Unsequenced      []string // filters of topics that are not numbered, such as reply topics; default: none
	Publisher        string   // the name under which messages are numbered; default ClientID
	// TopicAliases is the highest number of topic aliases that the client uses, if the server
	// allows it. They serve the latest topics, in at most 16 MiB. Default 0; at most 65,535.
	TopicAliases int
	// Refusals selects what happens to messages that the server refuses (PUBACK or PUBREC with a
	// reason code of 0x80 or above). The first matching rule applies. Default: no rules. A message
	// then ends as Refused only if the code concerns the message itself, so that a retry cannot
	// succeed (0x81, 0x82, 0x90, 0x95, 0x99 and the like). For all other codes, including 0x87, the
	// message is deferred: it stays pending and is resent after RetryBackoff until it expires. Later
	// messages of the same topic and priority wait for it; other topics continue.
	Refusals []RefusalRule
	// RetryBackoff is the delay before a deferred message is resent, with full jitter. Default: 250
	// ms, doubled each time, up to 1 minute.
	RetryBackoff reliability.Backoff
	// PoisonAttempts is how many connections in a row may end over the same message before it is
	// deferred. It is then sent alone, after the others, with RetryBackoff. If the server ends the
	// connections with a code that concerns the message itself, the message ends as Refused with a
	// *PoisonError instead. Refusals can change both. If the server gives no code, messages of the
	// same topic wait for the deferred one until it has ended three more connections. Default 5.
	PoisonAttempts int
	// Breaker is the circuit breaker for the server. Refusals of one topic count as one failure
	// until the server accepts a message. So FailureThreshold is the number of topics refused in a
	// row.
	Breaker     reliability.BreakerOptions
	WaitTimeout time.Duration // limit of Delivery.Wait; default: no limit
}

// ReceivingConfig configures inbound messages and their handlers.
type ReceivingConfig struct {
	Concurrency int // how many messages are handled at the same time; default 8
	// OrderingKey returns the key of a message. Messages with the same key are handled one after
	// the other, in order of receipt. Default: the topic. It cannot be set together with Ordering.
	OrderingKey func(*Message) string
	Middleware  []Middleware // wraps every handler; the first one is outermost; default: none
	// HandlerAttempts is how often a failing handler is called for a message before the message is
	// set aside, see Handler. Default 0: without limit.
	HandlerAttempts int
	// HandlerBackoff is the delay between attempts, with full jitter. Default: 100 ms, doubled each
	// time, up to 30 s.
	HandlerBackoff reliability.Backoff
	// HandleExpired calls handlers for expired messages too. By default an expired message is
	// acknowledged, counted and reported as ReceivedExpired.
	HandleExpired bool
	// UnhandledGrace is how long a QoS 1 or 2 message waits for a handler, from the first
	// connection on. So does a message with a handler if only an earlier process subscribed to it.
	// The wait ends early when half of ReceiveMaximum messages are unacknowledged. Then a message
	// without a handler is set aside until one is declared; without Config.Dir it is refused.
	// Default 30 s; NoGrace disables it.
	UnhandledGrace time.Duration
	SetAside       SetAsideConfig // limits of the list of set-aside messages

	// Dedupe suppresses messages that were handled before. It does not suppress retained messages
	// that a new subscription delivers. The client claims each message under its ClientID before it
	// is handled. While another client holds the claim, the message and those after it in the same
	// queue wait. Close releases claims; it does not close the cache. Default: none.
	Dedupe dedupe.Cache
	// DedupeKey returns the key that equal messages share. A message with an empty key is always
	// handled. Default: the message ID. PayloadKey suits publishers that send no ID.
	DedupeKey func(*Message) string
	Ordering  *Ordering // restores the order of numbered messages; default: none

	ReceiveMaximum    uint16 // limit of received, unacknowledged QoS 1 and 2 messages; default 1,024
	TopicAliasMaximum uint16 // topic aliases that the server may use; default 0
	QoS0QueueSize     int    // limit of QoS 0 messages that wait for each worker; more are dropped and counted; default 1,024
	// MaxBufferedBytes limits the bytes of received messages that wait, are being handled, or are
	// held back to restore order. At the limit the client drops and counts QoS 0 messages, and
	// stops reading QoS 1 and 2 messages until handlers free space. If they free none within
	// AckTimeout, the connection ends with an *InboundFullError, and the server redelivers the
	// messages. Default 64 MiB; one packet of MaximumPacketSize always fits.
	MaxBufferedBytes int
}

// Ordering restores the order of numbered messages, per publisher and topic. It does not apply to
// Shared Subscriptions: their messages are handled in order of receipt, without reports of gaps.
//
// A message whose number was already handled is a duplicate if its ID is known too. A message with
// a known number and a new ID is handled with Message.OutOfOrder and reported as [NumberReused]. A
// message with a known number and no ID is dropped and reported as [NumberRepeated].
//
// With ReceivingConfig.Dedupe, the cache decides for messages that have a key. For others, the
// client compares the last MaxIDs IDs of each publisher and topic: 1,024 by default, or
// ReceiveMaximum if that is more. All workers share MaxIDBytes and MaxStreamBytes.
//
// A publisher's epoch is the time at which its store was created or renewed, see [StoreRenewed]. A
// device appears older, and its messages count as late, if its store is lost while its clock is
// unset or set back. The same holds for a copy of a store that is used under the same Publisher as
// the original. Do not use DropLate with such devices: it drops these messages, see [LateDropped].
type Ordering struct {
	ordering.Options
	Restore []Position // the last number handled in each stream, to continue after a restart; default: none
}

// Position is the last number handled of one publisher and topic.
type Position struct {
	Publisher, Topic string // of the stream
	Epoch, Seq       uint64 // of the message that was handled last
	// IDs are the IDs of the messages handled last, oldest first. They detect duplicates if no
	// Dedupe is kept in a file. Without them, a message that is redelivered after the restart is
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

// FullPolicy selects what Publish does when MaxMessages, MaxBytes or MaxDiskBytes of the store is
// reached. At other limits it always fails. Messages that may have been sent are never dropped, and
// neither are messages of a higher priority than the new one.
type FullPolicy uint8

const (
	Reject     FullPolicy = iota // Publish returns persistence.ErrFull
	Block                        // Publish waits for space, until its context ends or the client is closed
	DropOldest                   // the store drops the oldest message of the lowest priority; if there is none, as Reject
	DropNewest                   // Publish returns a Delivery with the state Dropped, and no error
)
